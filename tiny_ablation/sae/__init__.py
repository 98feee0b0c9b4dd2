"""Sparse autoencoders: text, activations, training, loading, and what they put into a run.

Everything that is about an autoencoder is SAELens' own code; importing that takes many seconds, so it is imported inside the
functions that need it.
"""
