"""A directory belongs to one run."""

import numpy as np
import pytest

from tests.store.test_manifest import a_run
from tiny_ablation.config.identity import Identity
from tiny_ablation.errors import ResultsError
from tiny_ablation.store.files import write_text
from tiny_ablation.store.ledger import keeping, read_ledger
from tiny_ablation.store.manifest import read_manifest, write_manifest
from tiny_ablation.store.rundir import RunDir
from tiny_ablation.store.rundir_guard import ensure_vacant, refuse_foreign, refuse_sweep, reopened
from tiny_ablation.store.sweepdir import SweepPlan, write_plan

RUN, ANOTHER = Identity("d", {"data": "x"}), Identity("another", {"data": "y"})


@pytest.mark.parametrize("digest", ["d", "another"])
def test_an_empty_directory_and_the_same_run_are_left_alone(tmp_path, digest):
    this = Identity(digest, {})
    ensure_vacant(RunDir(tmp_path / "new"), this, replace=False)
    run = a_run(tmp_path, digest=digest)
    ensure_vacant(run, this, replace=True)
    assert run.summary.is_file()


def test_another_run_is_refused_with_what_differs_and_the_ways_on(tmp_path):
    run = a_run(tmp_path)
    told = r"holds another run \(abc\) \(data x there, y here\).*hydra\.run\.dir=DIR.*resume=false"
    with pytest.raises(ResultsError, match=told):
        ensure_vacant(run, ANOTHER, replace=False)
    assert run.summary.is_file()


def test_another_run_is_deleted_where_that_was_asked_for_and_nothing_else(tmp_path):
    run = a_run(tmp_path)
    run.provenance.write_text("altered by the user")
    ensure_vacant(run, ANOTHER, replace=True)
    left = {
        path.relative_to(tmp_path).as_posix(): path.read_text()
        for path in tmp_path.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }
    assert left == {
        "metrics/mine.txt": "of the user",
        "thesis.tex": "of the user",
        "run.log": "12:00",
        "provenance.json.kept": "altered by the user",
    }


def test_another_run_whose_files_are_not_all_on_record_is_not_replaced(tmp_path):
    """As an earlier version wrote it, of which `report` was made anew by this one."""
    run = a_run(tmp_path)
    (tmp_path / ".ledger").unlink()
    with reopened(tmp_path):
        write_text(run.report, "drawn anew")
    with pytest.raises(ResultsError, match=r"record of its files lacks (machine|manifest|metrics)"):
        ensure_vacant(run, ANOTHER, replace=True)
    assert run.summary.is_file()


def test_a_run_without_a_ledger_is_reopened_by_its_manifest_and_no_file_of_the_users_is_taken_for_its_own(tmp_path):
    run = a_run(tmp_path)
    (tmp_path / ".ledger").unlink()
    with reopened(tmp_path):
        write_text(run.report, "drawn anew")
        write_text(run.provenance, "anew")
        with pytest.raises(ResultsError, match=r"mine\.txt was not written by tiny-ablate"):
            write_text(run.metrics / "mine.txt", "")
        write_manifest(run, run_id="abc", status="ok", digest="d", covers={})
    assert set(read_manifest(tmp_path).files) == {"metrics/summary.json"}
    assert read_ledger(tmp_path).written.keys() == {"report.html", "provenance.json", "machine.json", "manifest.json"}


def test_new_and_empty_directories_and_those_of_its_own_are_free(tmp_path):
    refuse_foreign(tmp_path / "new")
    (tmp_path / "empty" / "also empty").mkdir(parents=True)
    refuse_foreign(tmp_path / "empty")
    a_run(tmp_path / "run")  # with the user's files beside its own
    refuse_foreign(tmp_path / "run")
    (tmp_path / "killed").mkdir()
    (tmp_path / "killed" / ".lock").touch()
    refuse_foreign(tmp_path / "killed")


def test_files_of_the_users_are_named_and_both_ways_on(tmp_path):
    for name in ("a/b/notes.ipynb", "config.yaml", "env.txt", "thesis.tex"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(
        ResultsError, match=r"\(config\.yaml, env\.txt, thesis\.tex, \.\.\.\).*hydra\.sweep\.dir=DIR, or move these files"
    ):
        refuse_foreign(tmp_path, "hydra.sweep.dir")


def test_a_file_of_the_users_under_a_name_of_ours_is_in_the_way_of_a_killed_run(tmp_path):
    with RunDir(tmp_path).lock():
        pass
    (tmp_path / "config.yaml").write_text("of the user")
    with pytest.raises(ResultsError, match=r"\(config\.yaml\)"):
        refuse_foreign(tmp_path)


@pytest.mark.parametrize("kind", ["file", "under a file", "null", "dangling", "loop", "under a dangling one", "long"])
def test_what_is_no_directory(tmp_path, kind):
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    place = {
        "file": "file",
        "under a file": "file/x/y",
        "null": "/dev/null",
        "dangling": "dangling",
        "loop": "loop",
        "under a dangling one": "dangling/x",
        "long": "x" * 300,
    }[kind]
    with pytest.raises(ResultsError, match=r"hydra\.run\.dir=.*cannot be used: "):
        refuse_foreign(tmp_path / place)


def test_the_batches_of_a_killed_run_are_refused_as_its_results_would_be(tmp_path):
    run = RunDir(tmp_path)
    with keeping(tmp_path):
        run.partial(RUN, "").save(0, {"a": np.zeros(3)})
    ensure_vacant(run, RUN, replace=True)
    told = r"holds 1 finished batches of another run \(d\), which was stopped \(data x there, y here\).*resume=false"
    with pytest.raises(ResultsError, match=told):
        ensure_vacant(run, ANOTHER, replace=False)
    assert run.partial(RUN, "").done() == {0}
    ensure_vacant(run, ANOTHER, replace=True)
    assert not run.batches.exists()


def test_a_damaged_manifest_does_not_keep_a_run_from_being_mended(tmp_path):
    run = a_run(tmp_path)
    write_text(run.manifest, "{")
    ensure_vacant(run, ANOTHER, replace=False)


def test_a_job_that_failed_before_it_was_a_run_is_in_nobodys_way(tmp_path):
    ensure_vacant(a_run(tmp_path, status="failed", digest=""), RUN, replace=False)


def test_a_sweep_is_refused(tmp_path):
    refuse_sweep(tmp_path)
    write_plan(tmp_path, SweepPlan("a", (), ()))
    with pytest.raises(ResultsError, match="holds a sweep"):
        refuse_sweep(tmp_path)
