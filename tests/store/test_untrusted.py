"""What is wrong with the content of a stranger's files is told as a fault of the files."""

import pytest

from tiny_ablation.errors import GuardError, ModelError, ResultsError
from tiny_ablation.store.untrusted import reading


@pytest.mark.parametrize("error", [KeyError("n"), GuardError("A rate lies between 0 and 1."), ValueError("no")])
def test_what_the_content_sets_off_is_refused_by_name(tmp_path, error):
    with pytest.raises(ResultsError, match=f"{tmp_path} holds"), reading(tmp_path):
        raise error


def test_what_was_told_already_and_want_of_memory_pass(tmp_path):
    for error in (ModelError("told"), MemoryError()):
        with pytest.raises(type(error)), reading(tmp_path):
            raise error
