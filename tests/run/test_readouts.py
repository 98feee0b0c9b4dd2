"""Tables of what is read directly, beside the effects of one run."""

import json

import numpy as np
import pandas as pd
import pytest

from tests.cli.conftest import TOY
from tiny_ablation.report.examples import readouts_section
from tiny_ablation.store.files import read_json
from tiny_ablation.store.rundir import RunDir

RUN = [*TOY, "verify=off", "ablation.scales=[0.0]", "hydra.run.dir=run"]


@pytest.fixture
def run(cli, tmp_path):
    assert cli(*RUN).code == 0
    return RunDir(tmp_path / "run")


def table(run, name):
    return pd.read_parquet(run.metrics / f"{name}.parquet")


def test_the_lens_behind_the_last_layer_is_the_baseline(run):
    layers = table(run, "layer_readouts")
    assert layers["lens"].iloc[-1] == pytest.approx(read_json(run.summary)["baseline"]["logit_diff"]["mean"], abs=1e-4)
    heads = table(run, "head_readouts").groupby("layer")["direct"].sum()
    assert np.allclose(heads, layers["attn_out"], atol=1e-5)  # the toy model's attention has no bias


def test_attention_to_the_first_the_one_before_and_itself_are_shares(run):
    heads = table(run, "head_readouts")
    assert len(heads) == 8
    assert (heads[["to_first", "to_previous", "to_self", "induction"]].to_numpy() > 0).all()
    assert (heads[["to_first", "to_previous", "to_self"]].to_numpy() < 1).all()


def test_prompts_of_the_strongest_heads_are_those_that_they_change_most(run):
    found, top = table(run, "head_prompts"), read_json(run.summary)["top"]
    sites = list(dict.fromkeys(zip(found["layer"], found["head"], strict=True)))
    assert sites == [(site["layer"], site["head"]) for site in top[:3]]
    examples = table(run, "per_example")
    for layer, head in sites:
        mine = examples[(examples["layer"] == layer) & (examples["head"] == head)].set_index("example_id")
        change = (mine["logit_diff"] - mine["logit_diff_baseline"]).abs().sort_values(ascending=False, kind="stable")
        rows = found[(found["layer"] == layer) & (found["head"] == head)]
        assert list(rows["example_id"]) == list(change.index[:8])
        assert all(sum(weight for _, _, weight in json.loads(text)) <= 1 + 1e-6 for text in rows["attended"])


def test_the_section_names_heads_prompts_and_tokens(run):
    section = readouts_section(run, heads=2, prompts=3)
    assert (len(section.tables), len(section.text)) == (2, 2)
    first = table(run, "head_prompts").iloc[0]
    assert f"L{first['layer']}H{first['head']} adds" in section.text[0]
    [cell] = [row for row in section.tables[0].rows[:1]]
    assert json.loads(first["promoted"])[0][0].strip() in cell[2]
    assert cell[4] == f"{first['direct']:+.3f}"
    (run.metrics / "head_prompts.parquet").unlink()
    assert readouts_section(run).tables == ()


def test_kinds_about_other_sites_have_no_such_tables(cli, tmp_path):
    assert cli(*TOY, "verify=off", "ablation=heads_pair_zero", "ablation.of=[L0H0,L0H1]", "hydra.run.dir=run").code == 0
    assert not list((tmp_path / "run/metrics").glob("*_readouts.parquet"))
