"""Corpora and splits of strangers: read, or refused in one line; see `tests/fuzz/surfaces.py` for what is held."""

from tests.fuzz import targets
from tests.properties.cases import cases

test_rows_sidecars_and_splits = cases(150, 4000)(targets.corpus)
test_rows_of_other_formats = cases(150, 4000)(targets.table)
