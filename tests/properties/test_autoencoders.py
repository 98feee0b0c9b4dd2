"""Autoencoders of strangers, in SAELens' format."""

from tests.fuzz import targets
from tests.properties.cases import cases

test_directories = cases(40, 1000)(targets.autoencoder)
