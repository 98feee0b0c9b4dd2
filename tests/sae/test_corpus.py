import json
import platform

import pytest

from tiny_ablation.errors import DataError
from tiny_ablation.sae import corpus
from tiny_ablation.sae.corpus import content_id, documents, pieces


def test_a_directory_is_read_in_order_and_other_files_are_left_alone(tmp_path):
    (tmp_path / "b.md").write_text("second")
    (tmp_path / "a.txt").write_text("first")
    (tmp_path / "c.jsonl").write_text(json.dumps({"text": "third"}) + "\n" + json.dumps({"text": "fourth"}) + "\n")
    (tmp_path / "d.py").write_text("no text")
    assert list(documents(str(tmp_path))) == ["first", "second", "third", "fourth"]


def test_long_texts_are_cut_at_line_ends_and_nothing_is_lost():
    text = "".join(f"line {i} of a long text\n" for i in range(1000))
    parts = list(pieces(text))
    assert "".join(parts) == text
    assert len(parts) > 3
    assert all(len(part) <= corpus.PIECE and part.endswith("\n") for part in parts)


def test_what_is_built_in_is_prose(tmp_path, monkeypatch):
    (tmp_path / "site-packages").mkdir()
    (tmp_path / "mod.py").write_text(f'def f():\n    """{"A long story. " * 20}"""\n\ndef g():\n    """Short."""\n')
    (tmp_path / "site-packages/other.py").write_text(f'"""{"Not ours. " * 40}"""\n')
    (tmp_path / "broken.py").write_text("def (:\n")
    monkeypatch.setattr(corpus.sysconfig, "get_path", lambda _: str(tmp_path))
    found = list(documents(None))
    assert found[-1].startswith("A long story.")
    assert sum(map(len, found)) > 300_000  # the language reference
    assert not any("Not ours" in text or text == "Short." for text in found)


def test_the_identity_is_the_content_not_the_place(tmp_path):
    first, second = tmp_path / "first.txt", tmp_path / "second.txt"
    first.write_text("the same")
    second.write_text("the same")
    assert content_id(str(first)) == content_id(str(second))
    second.write_text("another")
    assert content_id(str(first)) != content_id(str(second))
    assert platform.python_version() in content_id(None)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda d: d / "missing", "is no file or directory"),
        (lambda d: d, "holds no"),
        (lambda d: (d / "x.jsonl", (d / "x.jsonl").write_text("{}\n"))[0], "line 1"),
        (lambda d: (d / "x.txt", (d / "x.txt").write_bytes(b"\xff\xfe\xff"))[0], "UTF-8"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, make, said):
    with pytest.raises(DataError, match=said) as caught:
        list(documents(str(make(tmp_path))))
    assert "sae.corpus" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_hub_data_set_is_streamed(monkeypatch):
    import datasets

    asked = []

    def load_dataset(name, **how):
        asked.append((name, how))
        return iter([{"text": "one"}, {"text": "two"}])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert list(documents("hub:some/texts")) == ["one", "two"]
    assert asked == [("some/texts", {"split": "train", "streaming": True})]
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: iter([{"body": "x"}]))
    with pytest.raises(DataError, match='no column "text"'):
        list(documents("hub:some/texts"))
