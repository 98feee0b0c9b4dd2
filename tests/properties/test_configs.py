"""Overrides and option files of strangers."""

from tests.fuzz import targets
from tests.properties.cases import cases

test_overrides = cases(40, 1300)(targets.overrides)
test_option_files = cases(40, 1000)(targets.option_file)
