"""A fast way that does not prove exact is not used, and this is said."""

import json

import pandas as pd

from tests.cli.conftest import TOY
from tiny_ablation.models import loader, paths


def test_what_is_switched_off_is_said_and_changes_no_number(cli, tmp_path, monkeypatch):
    assert cli(*TOY, "verify=off", "hydra.run.dir=fast").code == 0
    provenance = json.loads((tmp_path / "fast/provenance.json").read_text())
    assert provenance["switched_off"] == {}
    real = paths._fault

    def fault(path, check):
        return {path: "it is off by one"} if path in ("prefix trees", "resuming") else real(path, check)

    monkeypatch.setattr(paths, "_fault", fault)
    loader.forget()
    done = cli(*TOY, "verify=off", "hydra.run.dir=slow")
    loader.forget()
    assert done.code == 0, done.err
    assert "slower and its numbers are the same: prefix trees (it is off by one)" in done.err
    provenance = json.loads((tmp_path / "slow/provenance.json").read_text())
    assert set(provenance["switched_off"]) == {"prefix trees", "resuming"}
    fast, slow = (pd.read_parquet(tmp_path / name / "metrics/head_impact.parquet") for name in ("fast", "slow"))
    assert (fast["value"] - slow["value"]).abs().max() < 5e-5
