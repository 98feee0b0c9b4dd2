"""Two runs on the same prompts: which effects differ."""

import numpy as np
import pandas as pd
import pytest

from tests.cli.conftest import TOY
from tiny_ablation.store.reader import load_run


@pytest.fixture
def runs(cli, tmp_path, once):
    def make():
        for name, more in (("zero", ()), ("half", ("ablation.scales=[0.5]",)), ("mlp", ("ablation=mlp_zero",))):
            assert cli(*TOY, "verify=off", *more, f"hydra.run.dir={name}").code == 0

    once(make)
    return tmp_path


def test_the_difference_is_that_of_the_prompts(cli, runs):
    assert cli(*TOY, "verify=off", "model.seed=1", "hydra.run.dir=other").code == 0
    found = cli("compare", "zero", "other", "--json").json()
    assert found["metric"] == "logit_diff"
    assert found["differ"]["model.seed"] == [0, 1]
    tables = [load_run(runs / name).impact.query("metric == 'logit_diff'") for name in ("zero", "other")]
    one, two = (table.set_index(["layer", "head"])["delta"] for table in tables)
    expected = (two - one).sort_values(key=np.abs, ascending=False)
    sites = pd.DataFrame(found["sites"]).set_index(["layer", "head"])
    assert list(sites.index) == list(expected.index)
    assert sites["difference"].to_numpy() == pytest.approx(expected.to_numpy(), abs=1e-9)
    assert (sites["ci_low"] <= sites["difference"]).all()
    assert (sites["ci_high"] >= sites["difference"]).all()
    assert ((sites["q_value"] >= sites["p_value"]) | sites["q_value"].isna()).all()


def test_a_run_does_not_differ_from_itself(cli, runs):
    shown = cli("compare", "zero", "zero")
    assert shown.code == 0
    assert "0 of 8 sites differ" in shown.out
    assert "[0.000, 0.000]" in shown.out


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        (("zero", "mlp"), "a head_impact and a layer_impact have no site in common"),
        (("zero", "half"), "have no site in common"),
        (("zero", "zero", "--metric", "logitdiff"), r"no metric logitdiff \(did you mean logit_diff\?\)"),
        (("zero", "nowhere"), "nowhere"),
    ],
)
def test_what_cannot_be_compared_is_refused(cli, runs, pair, words):
    import re

    done = cli("compare", *pair)
    assert done.code == 2
    assert re.search(words, done.err)


def test_other_prompts_are_for_a_sweep(cli, runs):
    assert cli(*TOY, "verify=off", "dataset=negation", "hydra.run.dir=other").code == 0
    done = cli("compare", "zero", "other")
    assert (done.code, "have no prompt in common; different data sets are compared in one sweep" in done.err) == (2, True)
