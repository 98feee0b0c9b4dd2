import pytest

from tests.ledgers import adopt
from tiny_ablation.store.files import write_bytes, write_json, write_text
from tiny_ablation.store.manifest import write_manifest
from tiny_ablation.store.rundir import RunDir


@pytest.fixture
def make_run():
    """A function that writes a small finished run into a directory."""
    return _make_run


def _make_run(path, *, value=0.25, status="ok", digest="d1"):
    run = RunDir(path)
    write_text(run.config, "model:\n  name: toy\nseed: 3\nablation:\n  heads: [0, 1]\ntracking:\n  uri: http://u:pw@h\n")
    metrics = {"logit_diff": {"mean": value, "ci": [0.1, 0.4], "low": float("nan"), "flag": True}}
    write_json(run.summary, {"metrics": metrics, "n (examples)": 16, "top": [{"layer": 1}]})
    write_bytes(run.artifacts / "heatmap.png", b"png")
    times = {"started": "2025-01-01T00:00:00+00:00", "ended": "2025-01-01T00:01:00+00:00"}
    write_json(run.provenance, {**times, "git_commit": "c0ffee", "git_dirty": True})
    adopt(run.path)
    write_manifest(run, run_id="abc", status=status, digest=digest, covers={})
    return path
