"""A process that is killed while it trains, through the command line, and run again."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from tiny_ablation.store.files import read_table

pytestmark = pytest.mark.slow

ARGS = [
    "model=toy",
    "tracking=off",
    "verify=off",
    "ablation=sae_train",
    "dataset.n_examples=8",
    "stats.n_boot=200",
    "stats.n_perm=200",
    "sae.width=32",
    "sae.k=4",
    "sae.context=16",
    "sae.own_samples=2",
    "sae.batch=64",
    "sae.tokens=640",
    "sae.held_out=256",
    "sae.checkpoint_every=25",
    "hydra.run.dir=run",
]
# Runs the command line, and kills itself without a word at a step.
KILLED = """
import os, signal, sys
from tiny_ablation.sae import training
point = training._point
def kill(step, output):
    if step == int(os.environ["KILL_AT"]):
        os.kill(os.getpid(), signal.SIGKILL)
    return point(step, output)
training._point = kill
from tiny_ablation.cli import main
sys.exit(main(sys.argv[1:]))
"""


def start(place, corpus, steps, kill_at=-1):
    place.mkdir(exist_ok=True)
    env = {**os.environ, "KILL_AT": str(kill_at), "TINY_ABLATE_CACHE": str(place / "cache")}
    args = [*ARGS, f"sae.corpus={corpus}", f"sae.steps={steps}"]
    return subprocess.run(
        [sys.executable, "-c", KILLED, *args], cwd=place, env=env, capture_output=True, text=True, check=False
    )


def curve(place):
    (record,) = place.glob("cache/sae/*/trained.json")
    return [point["loss"] for point in json.loads(record.read_text())["curve"]]


def test_killed_twice_it_ends_like_an_undisturbed_run(tmp_path, small):
    corpus = small().corpus
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert start(whole, corpus, 120).returncode == 0
    for kill_at, kept in ((60, "step-00000050"), (110, "step-00000100")):
        done = start(killed, corpus, 120, kill_at)
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert [path.name for path in killed.glob("cache/sae/*.work/step-*")] == [kept]
        assert not list(killed.glob("run/manifest.json"))
    done = start(killed, corpus, 120)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(curve(killed), curve(whole), rtol=1e-5)
    tables = [read_table(place / "run/metrics/layer_impact.parquet") for place in (whole, killed)]
    np.testing.assert_allclose(tables[0]["delta"], tables[1]["delta"], atol=1e-5)
