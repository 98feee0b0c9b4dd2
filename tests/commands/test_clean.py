"""`tiny-ablate clean`: shows first, deletes when told to, and never what is in use."""

import json
import subprocess
import sys

import pytest
from filelock import FileLock

from tiny_ablation.store.cache_entries import mark
from tiny_ablation.store.checksummed_json import write_sealed

ID = "gguf:" + "ab" * 32
MAKE = f"""
from tiny_ablation.models.sources import store

def build(directory):
    (directory / "model.safetensors").write_bytes(b"x" * 2_000_000)
    return {{}}

store.converted("tiny", {ID!r}, build)
"""


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache with one of everything; nothing in it is in use."""
    place = tmp_path / "cache"
    monkeypatch.setenv("TINY_ABLATE_CACHE", str(place))
    subprocess.run([sys.executable, "-c", MAKE], check=True)
    for name in ("models/.tiny-2-v1.tmp-xy", "sae/toy-L1-16-abc", "sae/toy-L2-16-abc.work/step-00000050"):
        (place / name).mkdir(parents=True)
        (place / name / "weights").write_bytes(b"x" * 1_000_000)
    for name in ("models/.tiny-2-v1.tmp-xy", "sae/toy-L2-16-abc.work"):
        mark(place / name)
    write_sealed(place / "sae/toy-L1-16-abc/trained.json", {"files": {"weights": "0" * 64}})
    return place


@pytest.mark.parametrize("name", ["models/thesis", "sae/mine", "models/.mine.tmp-x", "sae/mine.work", "models/link"])
def test_what_the_tool_did_not_make_is_not_shown_and_not_deleted(cache, cli, tmp_path, name):
    theirs = tmp_path / "theirs" if name.endswith("link") else cache / name
    theirs.mkdir(parents=True)
    (theirs / "source.json").write_text('{"of": "the user"}')
    if name.endswith("link"):
        mark(theirs)
        (cache / name).symlink_to(theirs)
    rows = cli("clean", "--yes", "--json").json()
    assert [row["state"] for row in rows] == ["deleted"] * 4
    assert (theirs / "source.json").read_text() == '{"of": "the user"}'


def test_what_a_user_put_into_an_entry_keeps_it(cache, cli):
    (cache / "sae/toy-L1-16-abc/notes.txt").write_text("of the user")
    done = cli("clean", "autoencoder", "--yes")
    assert done.code == 1
    assert "not deleted: it holds notes.txt" in done.out
    assert (cache / "sae/toy-L1-16-abc/weights").is_file()


def states(result):
    return {row["path"].rpartition("/")[2].partition("-")[0] + ":" + row["kind"]: row["state"] for row in result.json()}


def test_it_shows_what_there_is_and_deletes_nothing(cache, cli):
    before = sorted(cache.rglob("*"))
    result = cli("clean")
    assert result.code == 0
    for words in (
        str(cache),
        "autoencoder  1.0 MB  there",
        "model  2.0 MB",
        "left behind",
        "unfinished training",
        "5.0 MB would be deleted; say --yes",
    ):
        assert words in result.out
    assert sorted(cache.rglob("*")) == before


def test_yes_deletes_and_a_second_time_there_is_nothing(cache, cli):
    result = cli("clean", "--yes", "--json")
    assert [(row["state"], row["bytes"] > 999_999) for row in result.json()] == [("deleted", True)] * 4
    assert [path for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock"] == []
    assert "Nothing of the kind" in cli("clean").out


def test_words_and_left_choose(cache, cli):
    assert len(cli("clean", "autoencoder", "--json").json()) == 1
    assert len(cli("clean", "sae", "--json").json()) == 2
    assert [row["kind"] for row in cli("clean", "--left", "--yes", "--json").json()] == ["left behind", "unfinished training"]
    assert len(cli("clean", "--json").json()) == 2


def test_what_is_being_made_stays(cache, cli):
    with FileLock(cache / "models/.tiny-2-v1.lock"), FileLock(cache / "sae/toy-L2-16-abc.lock"):
        found = {row["kind"]: row["state"] for row in cli("clean", "--yes", "--json").json()}
    assert found == {"left behind": "in use", "model": "deleted", "autoencoder": "deleted", "unfinished training": "in use"}
    assert (cache / "sae/toy-L2-16-abc.work/step-00000050/weights").is_file()


def test_what_another_process_uses_stays(cache, cli):
    code = f"{MAKE}\nprint('up', flush=True); input()"
    user = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert user.stdout.readline() == "up\n"
    assert [row["state"] for row in cli("clean", "tiny-ab", "--yes", "--json").json()] == ["in use"]
    user.kill()
    user.communicate()
    assert [row["state"] for row in cli("clean", "tiny-ab", "--yes", "--json").json()] == ["deleted"]


def test_what_cannot_be_deleted_is_said(cache, cli, monkeypatch):
    from tiny_ablation.store.cache_entries import Entry

    def refuse(self):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Entry, "delete", refuse)
    result = cli("clean", "tiny-ab", "--yes")
    assert result.code == 1
    assert "not deleted: Operation not permitted" in result.out


def test_a_deletion_that_was_killed_counts_as_left_behind(cache, cli, monkeypatch):
    import shutil

    monkeypatch.setattr(shutil, "rmtree", lambda path: None)  # so the mark, and what is below it, stay
    cli("clean", "autoencoder", "--yes")
    found = json.loads(cli("clean", "sae", "--json").out)
    assert sorted(row["kind"] for row in found) == ["left behind", "unfinished training"]
