"""A directory belongs to one run."""

import pytest

from tests.results.test_manifest import a_run
from tiny_ablation.errors import ResultsError
from tiny_ablation.results.occupied import make_way, refuse_sweep
from tiny_ablation.results.rundir import RunDir
from tiny_ablation.results.store import write_text
from tiny_ablation.results.sweepdir import SweepPlan, write_plan


@pytest.mark.parametrize("digest", ["d", "another"])
def test_an_empty_directory_and_the_same_run_are_left_alone(tmp_path, digest):
    make_way(RunDir(tmp_path / "new"), digest, replace=False)
    run = a_run(tmp_path, digest=digest)
    make_way(run, digest, replace=True)
    assert run.summary.is_file()


def test_another_run_is_refused(tmp_path):
    run = a_run(tmp_path)
    with pytest.raises(ResultsError, match=r"holds another run \(abc\).*hydra\.run\.dir=DIR.*resume=false"):
        make_way(run, "another", replace=False)
    assert run.summary.is_file()


def test_another_run_is_deleted_where_that_was_asked_for_and_nothing_else(tmp_path):
    run = a_run(tmp_path)
    write_text(tmp_path / "metrics" / "mine.txt", "of the user")
    make_way(run, "another", replace=True)
    left = sorted(
        path.name for path in tmp_path.rglob("*") if path.is_file() and not path.name.startswith(".")
    )
    assert left == ["batch_00000.safetensors", "mine.txt", "tiny-ablate.log", "tiny-ablate.log.1"]


def test_a_damaged_manifest_does_not_keep_a_run_from_being_mended(tmp_path):
    run = a_run(tmp_path)
    write_text(run.manifest, "{")
    make_way(run, "another", replace=False)


def test_a_job_that_failed_before_it_was_a_run_is_in_nobodys_way(tmp_path):
    make_way(a_run(tmp_path, status="failed", digest=""), "d", replace=False)


def test_a_sweep_is_refused(tmp_path):
    refuse_sweep(tmp_path)
    write_plan(tmp_path, SweepPlan("a", (), ()))
    with pytest.raises(ResultsError, match="holds a sweep"):
        refuse_sweep(tmp_path)
