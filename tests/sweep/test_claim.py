"""One directory, one plan, one process."""

import subprocess
import sys

import pytest

from tiny_ablation.errors import ResultsError
from tiny_ablation.results.manifest import write_manifest
from tiny_ablation.results.rundir import RunDir
from tiny_ablation.results.sweepdir import Cell, SweepPlan, read_plan, write_plan
from tiny_ablation.sweep.claim import claim, claimed, release

PLAN = SweepPlan("a" * 64, ("dataset",), (Cell(0, "facts/0", "facts", 0, ("dataset=facts",)),))
OTHER = SweepPlan("b" * 64, ("seed",), PLAN.cells)


def test_the_plan_is_written_and_read_back(tmp_path):
    claim(tmp_path / "s", PLAN)
    assert claimed() == tmp_path / "s"
    release(tmp_path / "s")
    assert claimed() is None
    assert read_plan(tmp_path / "s") == PLAN


def test_another_plan_is_refused_and_nothing_is_changed(tmp_path):
    write_plan(tmp_path, PLAN)
    with pytest.raises(ResultsError, match="belongs to another sweep"):
        claim(tmp_path, OTHER)
    assert read_plan(tmp_path) == PLAN


def test_the_directory_of_a_run_is_refused(tmp_path):
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(ResultsError, match="single run"):
        claim(tmp_path, PLAN)


def test_a_damaged_plan_is_refused_with_what_to_do_and_doing_it_helps(tmp_path):
    write_plan(tmp_path, PLAN)
    write_manifest(RunDir(tmp_path), run_id="r", status="ok", digest="d", covers={}, extra={"kind": "sweep"})
    plan = tmp_path / "sweep.json"
    plan.write_text(plan.read_text().replace("facts", "faots"))
    with pytest.raises(ResultsError, match=r"sweep\.json is damaged.*Delete it and start the sweep again"):
        claim(tmp_path, PLAN)
    plan.unlink()
    claim(tmp_path, PLAN)
    release(tmp_path)
    assert read_plan(tmp_path) == PLAN


def test_a_second_process_is_refused(tmp_path):
    claim(tmp_path, PLAN)
    code = (
        "import pathlib, sys; from tiny_ablation.sweep.claim import claim\n"
        "from tiny_ablation.results.sweepdir import read_plan\n"
        "path = pathlib.Path(sys.argv[1]); claim(path, read_plan(path))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
    )
    release(tmp_path)
    assert "Another process is running a sweep" in done.stderr


@pytest.mark.parametrize("place", ["../out", "/abs", "a/../../b", ""])
def test_a_plan_that_leads_out_of_its_directory_is_damaged(tmp_path, place):
    write_plan(tmp_path, SweepPlan("a", (), (Cell(0, place, "facts", 0, ()),)))
    with pytest.raises(ResultsError, match="damaged"):
        read_plan(tmp_path)
