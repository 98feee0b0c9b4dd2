"""Overrides and option files of strangers."""

from tests.fuzz import targets
from tests.properties.cases import cases

test_overrides = cases(40, 700)(targets.overrides)
test_option_files = cases(40, 700)(targets.option_file)
