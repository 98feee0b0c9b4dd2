"""One directory, one plan, one process."""

import re
import subprocess
import sys

import numpy as np
import pytest

from tiny_ablation.config.identity import Identity
from tiny_ablation.errors import ResultsError
from tiny_ablation.store.files import write_text
from tiny_ablation.store.ledger import keeping
from tiny_ablation.store.manifest import write_manifest
from tiny_ablation.store.rundir import RunDir
from tiny_ablation.store.sweepdir import Cell, SweepDir, SweepPlan, read_plan, write_plan
from tiny_ablation.sweep.claim import begin, claim, claimed, release


def a_plan(weights="one", torch="2"):
    """Of one cell; weights None where the model cannot be had."""
    digest, content = (f"digest-{weights}-{torch}", {"weights": weights}) if weights else ("", {})
    cell = Cell(0, "facts/0", "facts", 0, ("dataset=facts",), digest, {"data_hash": "d", **content})
    return SweepPlan("a" * 64, ("dataset",), (cell,), content={"versions": {"torch": torch}})


def covers(plan):
    return {**plan.content, **plan.cells[0].content, "config": {"seed": 0}}


PLAN = a_plan()
OTHER = SweepPlan("b" * 64, ("seed",), PLAN.cells)


def test_the_plan_is_written_and_read_back(tmp_path):
    claim(tmp_path / "s", PLAN)
    begin(tmp_path / "s", PLAN, anew=False)
    assert claimed() == tmp_path / "s"
    release(tmp_path / "s")
    assert claimed() is None
    assert read_plan(tmp_path / "s") == PLAN


def test_another_plan_is_refused_and_nothing_is_changed(tmp_path):
    with keeping(tmp_path):
        write_plan(tmp_path, PLAN)
    with pytest.raises(ResultsError, match="belongs to another sweep"):
        claim(tmp_path, OTHER)
    assert read_plan(tmp_path) == PLAN


def test_the_directory_of_a_run_is_refused(tmp_path):
    with keeping(tmp_path):
        write_text(tmp_path / "manifest.json", "{}")
    with pytest.raises(ResultsError, match="single run"):
        claim(tmp_path, PLAN)


@pytest.mark.parametrize("place", ["thesis.tex", "facts/0/thesis.tex"])
def test_files_of_the_users_are_refused_in_the_directory_and_in_that_of_a_cell(tmp_path, place):
    if place != "thesis.tex":
        with keeping(tmp_path):
            write_plan(tmp_path, PLAN)
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / place).touch()
    with pytest.raises(ResultsError, match=r"\(thesis\.tex\).*hydra\.sweep\.dir=DIR"):
        claim(tmp_path, PLAN)
    assert claimed() is None


def test_a_damaged_plan_is_refused_with_what_to_do_and_doing_it_helps(tmp_path):
    with keeping(tmp_path):
        write_plan(tmp_path, PLAN)
    write_manifest(RunDir(tmp_path), run_id="r", status="ok", digest="d", covers={}, extra={"kind": "sweep"})
    plan = tmp_path / "sweep.json"
    plan.write_text(plan.read_text().replace("facts", "faots"))
    with pytest.raises(ResultsError, match=r"sweep\.json is damaged.*Delete it and start the sweep again"):
        claim(tmp_path, PLAN)
    plan.unlink()
    claim(tmp_path, PLAN)
    begin(tmp_path, PLAN, anew=False)
    release(tmp_path)
    assert read_plan(tmp_path) == PLAN


def test_a_second_process_is_refused(tmp_path):
    claim(tmp_path, PLAN)
    begin(tmp_path, PLAN, anew=False)
    code = (
        "import pathlib, sys; from tiny_ablation.sweep.claim import claim\n"
        "from tiny_ablation.store.sweepdir import read_plan\n"
        "path = pathlib.Path(sys.argv[1]); claim(path, read_plan(path))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    release(tmp_path)
    assert "Another process is running a sweep" in done.stderr


@pytest.mark.parametrize("place", ["../out", "/abs", "a/../../b", ""])
def test_a_plan_that_leads_out_of_its_directory_is_damaged(tmp_path, place):
    write_plan(tmp_path, SweepPlan("a", (), (Cell(0, place, "facts", 0, ()),)))
    with pytest.raises(ResultsError, match="damaged"):
        read_plan(tmp_path)


OTHER_CONTENT = [
    (a_plan(weights="two"), "weights one there, two here (1 cell)"),
    (a_plan(torch="3"), "torch 2 there, 3 here (1 cell)"),
]


@pytest.mark.parametrize(("plan", "told"), OTHER_CONTENT)
def test_a_sweep_of_other_content_is_refused_from_its_plan_alone(tmp_path, plan, told):
    begin(tmp_path, PLAN, anew=False)
    begin(tmp_path, PLAN, anew=False)
    with pytest.raises(ResultsError, match=f"{re.escape(told)}.*hydra.sweep.dir=DIR.*resume=false"):
        begin(tmp_path, plan, anew=False)
    assert read_plan(tmp_path) == PLAN


@pytest.mark.parametrize("left", ["results", "batches"])
@pytest.mark.parametrize(("plan", "told"), OTHER_CONTENT)
def test_what_runs_left_is_refused_when_the_plan_is_gone_and_replaced_when_asked(tmp_path, plan, told, left):
    rundir, run = RunDir(tmp_path / "facts/0"), Identity(PLAN.cells[0].digest, covers(PLAN))
    with keeping(rundir.path):
        if left == "batches":
            rundir.partial(run, "").save(0, {"a": np.zeros(2)})
        else:
            write_text(rundir.summary, "{}")
            write_manifest(rundir, run_id="r", status="ok", digest=run.digest, covers=run.covers)
    with pytest.raises(ResultsError, match=re.escape(told)):
        begin(tmp_path, plan, anew=False)
    begin(tmp_path, plan, anew=True)
    assert not rundir.manifest.exists()
    assert not rundir.batches.exists()
    assert not rundir.summary.exists()
    assert read_plan(tmp_path) == plan


def test_the_matrices_of_other_content_go_when_a_sweep_is_begun_anew(tmp_path):
    begin(tmp_path, PLAN, anew=False)
    summary = SweepDir(tmp_path).summary
    with keeping(tmp_path):
        write_text(summary, "{}")
    write_manifest(RunDir(tmp_path), run_id="r", status="ok", digest="d", covers={}, extra={"kind": "sweep"})
    begin(tmp_path, PLAN, anew=True)
    assert summary.exists()
    begin(tmp_path, a_plan(weights="two"), anew=True)
    assert not summary.exists()


def test_a_plan_of_an_earlier_version_goes_on_where_nothing_was_computed(tmp_path):
    with keeping(tmp_path):
        write_plan(tmp_path, SweepPlan(PLAN.plan_digest, (), (Cell(0, "facts/0", "facts", 0, ()),)))
    begin(tmp_path, PLAN, anew=False)
    assert read_plan(tmp_path) == PLAN


def test_a_model_that_cannot_be_had_any_more_stays_what_it_was(tmp_path):
    begin(tmp_path, PLAN, anew=False)
    begin(tmp_path, a_plan(weights=None), anew=False)
    assert read_plan(tmp_path) == PLAN
    with pytest.raises(ResultsError, match="torch 2 there, 3 here"):
        begin(tmp_path, a_plan(weights=None, torch="3"), anew=False)


def test_a_model_that_can_be_had_now_joins_the_plan(tmp_path):
    begin(tmp_path, a_plan(weights=None), anew=False)
    begin(tmp_path, PLAN, anew=False)
    assert read_plan(tmp_path) == PLAN
