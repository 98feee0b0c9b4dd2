"""A directory's own files are those that it wrote, as it wrote them."""

import json

import pytest

from tiny_ablation.errors import ResultsError
from tiny_ablation.store.files import delete, write_text
from tiny_ablation.store.ledger import NAME, keeping, ledger_of, read_ledger


def written(root, **files):
    with keeping(root):
        for name, text in files.items():
            write_text(root / name, text)


def names(root):
    return sorted(path.name for path in root.iterdir() if path.name != NAME)


def test_what_was_written_is_on_record_and_what_was_not_is_the_users(tmp_path):
    written(tmp_path, a="1")
    (tmp_path / "b").write_text("1")
    ledger = read_ledger(tmp_path)
    assert ledger.owns(tmp_path / "a")
    assert not ledger.owns(tmp_path / "b")
    assert list(ledger.files()) == ["a"]


def test_a_file_of_its_own_is_replaced_and_one_of_the_users_is_not(tmp_path):
    written(tmp_path, a="1")
    written(tmp_path, a="2")
    (tmp_path / "b").write_text("of the user")
    with pytest.raises(ResultsError, match=r"b was not written by tiny-ablate and is not replaced"):
        written(tmp_path, b="2")
    assert (tmp_path / "a").read_text() == "2"
    assert (tmp_path / "b").read_text() == "of the user"
    assert names(tmp_path) == ["a", "b"]


def test_an_altered_file_is_put_aside_before_it_is_written_again(tmp_path, caplog):
    written(tmp_path, a="1")
    for text in ("of the user", "again"):
        (tmp_path / "a").write_text(text)
        written(tmp_path, a="2")
    assert {name: (tmp_path / name).read_text() for name in names(tmp_path)} == {
        "a": "2",
        "a.kept": "of the user",
        "a.kept2": "again",
    }
    assert "it is kept as a.kept2" in caplog.text


def test_a_link_in_the_place_of_a_file_is_not_written_through(tmp_path):
    written(tmp_path / "run", a="1")
    (tmp_path / "theirs").write_text("1")
    (tmp_path / "run" / "a").unlink()
    (tmp_path / "run" / "a").symlink_to("../theirs")
    written(tmp_path / "run", a="2")
    assert (tmp_path / "theirs").read_text() == "1"
    assert not (tmp_path / "run" / "a").is_symlink()


def test_only_files_of_its_own_are_deleted(tmp_path):
    written(tmp_path, a="1", b="1")
    (tmp_path / "b").write_text("altered")
    (tmp_path / "c").write_text("of the user")
    with keeping(tmp_path):
        for name in ("a", "b", "c", "not there"):
            delete(tmp_path / name)
    assert names(tmp_path) == ["b.kept", "c"]
    delete(tmp_path / "c")  # where nobody keeps a ledger
    assert names(tmp_path) == ["b.kept"]


def test_a_killed_writer_leaves_a_ledger_that_is_gone_on_with(tmp_path):
    written(tmp_path, a="1")
    with (tmp_path / NAME).open("a") as file:
        file.write('{"token": "x", "file": "half')
    token = read_ledger(tmp_path).token
    written(tmp_path, b="2")
    ledger = read_ledger(tmp_path)
    assert ledger.token == token
    assert list(ledger.files()) == ["a", "b"]


def test_a_line_is_there_before_its_file_is(tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    with keeping(tmp_path), monkeypatch.context() as patch:
        patch.setattr("os.replace", stop)
        with pytest.raises(KeyboardInterrupt):
            write_text(tmp_path / "a", "1")
    assert read_ledger(tmp_path).written.keys() == {"a"}
    written(tmp_path, a="1")


def test_the_nearest_directory_keeps_the_record(tmp_path):
    with keeping(tmp_path) as outer, keeping(tmp_path / "cell") as inner:
        write_text(tmp_path / "a", "")
        write_text(tmp_path / "cell" / "b", "")
        with keeping(tmp_path) as again:
            assert again is outer
    assert (outer.written.keys(), inner.written.keys()) == ({"a"}, {"b"})
    assert ledger_of(tmp_path / "a") is None


@pytest.mark.parametrize(
    "line",
    [
        {"file": "a", "sha256": "x"},
        {"token": "ok", "file": "../a", "sha256": "x"},
        {"token": "ok", "file": "/a", "sha256": "x"},
        {"token": "ok", "file": ["a"], "sha256": "x"},
        {"token": "../..", "file": "a", "sha256": "x"},
        {"token": "ok", "file": "a"},
        ["token"],
        None,
    ],
)
def test_lines_that_make_no_sense_are_skipped(tmp_path, line):
    (tmp_path / NAME).write_text(f'{{"token": "ok"}}\n{json.dumps(line)}\n')
    assert read_ledger(tmp_path).written == {}


@pytest.mark.parametrize("text", ["", "notes of the user", "[1]"])
def test_another_file_of_its_name_is_no_ledger(tmp_path, text):
    (tmp_path / NAME).write_text(text)
    assert read_ledger(tmp_path) is None
