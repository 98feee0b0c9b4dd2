"""A sweep's own results are written by one process at a time."""

import subprocess
import sys

import pytest

from tiny_ablation.errors import ResultsError
from tiny_ablation.store.ledger import read_ledger
from tiny_ablation.store.sweepdir import SweepPlan, building, write_plan


@pytest.fixture
def sweep(tmp_path):
    write_plan(tmp_path, SweepPlan("a", (), ()))
    return tmp_path


def test_what_a_killed_builder_left_is_cleared_and_what_others_write_is_not(sweep):
    with building(sweep):
        pass
    mine = f".tmp-{read_ledger(sweep).token}"
    for name in (f"{mine}1.json", f"artifacts/cross_condition/{mine}2.json", "toy/0/metrics/.tmp-3.json", ".tmp-4.json"):
        (sweep / name).parent.mkdir(parents=True, exist_ok=True)
        (sweep / name).write_text("half")
    with building(sweep):
        assert sorted(path.name for path in sweep.rglob(".tmp-*")) == [".tmp-3.json", ".tmp-4.json"]


def test_a_second_builder_waits(sweep):
    code = (
        "import sys; from pathlib import Path; from tiny_ablation.store.sweepdir import building\n"
        "print('up', flush=True)\n"
        "with building(Path(sys.argv[1])): print('in', flush=True)"
    )
    with building(sweep):
        other = subprocess.Popen([sys.executable, "-c", code, str(sweep)], stdout=subprocess.PIPE, text=True)
        assert other.stdout.readline() == "up\n"
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(timeout=0.5)
    assert other.communicate(timeout=20)[0] == "in\n"


def test_no_sweep(tmp_path):
    with pytest.raises(ResultsError, match="is no sweep"), building(tmp_path):
        pass
