"""JSON that knows whether it is as it was written."""

import pytest

from tiny_ablation.errors import ResultsError
from tiny_ablation.store.checksummed_json import read_sealed, write_sealed

CONTENT = {"a": [1, 0.1, None, "größe"], "b": {"c": True}}


def test_what_was_written_comes_back(tmp_path):
    path = write_sealed(tmp_path / "x.json", CONTENT)
    assert read_sealed(path) == CONTENT
    assert write_sealed(tmp_path / "y.json", read_sealed(path)).read_bytes() == path.read_bytes()


def test_every_flipped_bit_is_found(tmp_path):
    path = write_sealed(tmp_path / "x.json", CONTENT)
    data = path.read_bytes()
    for at in range(len(data)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :])
        with pytest.raises(ResultsError, match=r"x\.json is damaged.*Mend it"):
            read_sealed(path, "Mend it.")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"a": 1}', '{"seal": 3}'])
def test_what_has_no_right_seal_is_damaged(tmp_path, content):
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(ResultsError, match="is damaged"):
        read_sealed(tmp_path / "x.json")
