"""One run by several workers, from the command line."""

import pandas as pd
import pytest

from tests.cli.conftest import TOY
from tiny_ablation.store.manifest import read_manifest

RUN = (*TOY, "verify=off", "dataset.n_examples=12", "hydra/launcher=basic")


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("run.shards=2",), "add -m, which starts the workers"),
        (("run.shards=2", "hydra.run.dir=here", "resume=false"), "would delete each other's batches"),
        (("-m", "run.shards=2,3"), "run.shards has one value"),
        (("-m", "run.shards=2", "hydra.sweep.subdir=a_${hydra.job.num}"), "workers of one run share its directory"),
    ],
)
def test_workers_that_could_not_share_a_run_are_refused(cli, args, told):
    done = cli(*args, "model=toy", "tracking=off")
    assert done.code == 2
    assert told in done.err


@pytest.mark.slow
def test_jobs_of_a_sweep_work_on_each_run_together(cli, tmp_path):
    grid = ("-m", *RUN, "seed=0,1", "hydra.sweep.dir=sweep")
    assert cli(*RUN[:-1], "hydra.run.dir=one").code == 0
    done = cli(*grid, "run.shards=2")
    assert done.code == 0, done.err
    assert (done.out.count("seed 0  ok"), done.out.count("seed 1  ok"), done.out.count("done before")) == (1, 1, 2)
    [first] = tmp_path.glob("sweep/*/*/*/0_seed0")
    assert (read_manifest(first).run_id, (first / "run-0.log").is_file()) == (read_manifest(tmp_path / "one").run_id, True)
    tables = [pd.read_parquet(place / "metrics/head_impact.parquet") for place in (first, tmp_path / "one")]
    pd.testing.assert_frame_equal(*tables, atol=2e-5, rtol=0)
    again = cli(*grid, "run.shards=2")
    assert (again.code, again.out.count("done before")) == (0, 4)
    anew = cli(*grid, "run.shards=2", "resume=false")
    assert (anew.code, anew.out.count("  ok")) == (0, 2)
