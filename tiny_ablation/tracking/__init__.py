"""Finished runs, published to a tracking server; the files of a run do not need it."""
