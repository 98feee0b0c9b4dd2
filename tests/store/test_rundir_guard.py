"""A directory belongs to one run."""

import numpy as np
import pytest

from tests.store.test_manifest import a_run
from tiny_ablation.config.identity import Identity
from tiny_ablation.errors import ResultsError
from tiny_ablation.store.files import write_text
from tiny_ablation.store.rundir import RunDir
from tiny_ablation.store.rundir_guard import ensure_vacant, refuse_sweep
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
    write_text(tmp_path / "metrics" / "mine.txt", "of the user")
    ensure_vacant(run, ANOTHER, replace=True)
    left = sorted(
        path.name for path in tmp_path.rglob("*") if path.is_file() and not path.name.startswith(".")
    )
    assert left == ["mine.txt", "tiny-ablate.log", "tiny-ablate.log.1"]


def test_the_batches_of_a_killed_run_are_refused_as_its_results_would_be(tmp_path):
    run = RunDir(tmp_path)
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
