"""Families of ablations, one slice each."""
