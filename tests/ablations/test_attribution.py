"""The attribution kind: which sites it measures, its tables and its receipt, on the toy model."""

import json

import numpy as np
import pandas as pd
import pytest

from tests.ablations.conftest import checked
from tiny_ablation.ablations.attribution import AttributionConfig
from tiny_ablation.ablations.registry import find_ablation
from tiny_ablation.ablations.shared.screening import site_of
from tiny_ablation.errors import ConfigError, DataError
from tiny_ablation.run.summary import run_summary
from tiny_ablation.stats.ranks import spearman

ABLATION = find_ablation("attribution")


def config(**keys):
    return AttributionConfig(kind="attribution", **{"top": 3, "random": 3, **keys})


@pytest.mark.parametrize("method", ["gradient", "integrated"])
@pytest.mark.parametrize("replacement", ["zero", "patch"])
@pytest.mark.parametrize("component", ["z", "mlp_out", "neurons"])
def test_rows_are_exact_and_agree_with_the_reference(
    toy_networks, make_pairs, make_context, against_reference, component, replacement, method
):
    network = toy_networks["gpt2"]
    clean, corrupt = make_pairs(network.shape.d_vocab)
    context = make_context(network, clean, corrupt=corrupt)
    (arm,) = ABLATION.plan(config(component=component, replacement=replacement, method=method, steps=2), context)
    n = network.shape.n_layers * network.shape.n_units(component)
    assert len(arm.estimates.sites) == n
    assert {site_of(row) for row in arm.rows} == {*arm.estimates.top, *arm.estimates.sample}
    assert arm.estimates.passes == (1 if method == "gradient" else 2 * network.shape.n_layers)
    assert against_reference(network, arm) > 1e-4


@pytest.mark.parametrize(
    ("component", "table", "unit"),
    [("z", "head_impact", "head"), ("mlp_out", "layer_impact", None), ("neurons", "feature_impact", "feature")],
)
def test_tables_and_receipt(run_toy, component, table, unit):
    run = run_toy(config(component=component))
    assert run.prepared.spec.table == table
    everything, impact = run.tables.more["attribution"], run.tables.impact
    exact = impact[impact["metric"] == "logit_diff"]
    assert everything["exact"].notna().sum() == len(exact) == (everything["in_top"] | everything["in_sample"]).sum()
    assert sorted(everything["rank"]) == list(range(1, len(everything) + 1))
    strongest = everything.sort_values("rank")["estimate"].abs()
    assert strongest.is_monotonic_decreasing
    for row in exact.to_dict("records"):
        at = (everything["layer"] == row["layer"]) & (everything["unit"] == (row[unit] if unit else 0))
        assert everything.loc[at, "exact"].item() == pytest.approx(row["delta"], abs=1e-12)
    note = run_summary(run.prepared, run.measured, run.tables)["notes"]["attribution"]
    sample = everything[everything["in_sample"]]
    assert note["random_sample"]["n"] == len(sample) == min(3, len(everything))
    rank = spearman(sample["estimate"], sample["exact"])
    assert note["random_sample"]["rank_correlation"] == (None if np.isnan(rank) else pytest.approx(rank))
    assert note["random_sample"]["sign_agreement"] == pytest.approx(
        (np.sign(sample["estimate"]) == np.sign(sample["exact"])).mean()
    )
    assert note["estimated"] == len(everything)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"component": "resid_pre"}, r"component=resid_pre: choose one of z, mlp_out, neurons"),
        ({"replacement": "mean"}, "replacement=mean"),
        ({"method": "magic"}, "method=magic"),
        ({"method": "integrated", "steps": 0}, "steps=0"),
        ({"positions": "first"}, "positions=first"),
        ({"layers": []}, "ablation.layers"),
        ({"random": 1}, "random=1"),
    ],
)
def test_refuses(keys, message):
    with pytest.raises(ConfigError, match=message):
        checked(ABLATION, config(**keys))


def test_patching_pairs_of_unequal_lengths_is_refused(toy_networks, make_prompts, make_context):
    network = toy_networks["llama"]
    prompts = make_prompts(network.shape.d_vocab)
    with pytest.raises(DataError, match="differ in token length"):
        ABLATION.plan(config(replacement="patch"), make_context(network, prompts, corrupt=prompts[::-1]))


def test_from_the_command_line(cli_run):
    directory, impact = cli_run("ablation=attribution", "ablation.top=2", "ablation.random=3")
    everything = pd.read_parquet(directory / "metrics" / "attribution.parquet")
    summary = json.loads((directory / "metrics" / "summary.json").read_text())
    assert set(impact["scale"]) == {0.0}
    assert 3 <= impact[["layer", "head"]].drop_duplicates().shape[0] <= 5
    assert len(everything) > 5
    assert "estimated recall" in summary["notes"]["attribution"]["text"]
    assert summary["seed_effect"].endswith("random sites")


def test_the_receipt_stands_on_the_screen_and_in_the_report(cli_run, capsys):
    directory, _ = cli_run("ablation=attribution", "ablation.top=2", "ablation.random=3")
    note = json.loads((directory / "metrics" / "summary.json").read_text())["notes"]["attribution"]
    said = [note["recall"]["text"], *(f"{note[part]['sign_agreement']:.0%}" for part in ("random_sample", "top"))]
    said += [f"{note[part]['rank_correlation']:.2f}" for part in ("random_sample", "top")]
    shown = {"screen": capsys.readouterr().out, "report": (directory / "report.html").read_text()}
    for where, text in shown.items():
        flat = " ".join(text.split())
        assert "logit_diff of 8 sites from gradients" in flat, where
        for each in said:
            assert each in flat, (where, each)


@pytest.mark.parametrize(
    ("ablation", "more"),
    [
        ("heads_mean", ["ablation.mean=position"]),
        ("heads_resample", ["ablation.positions=last"]),
        ("mlp_zero", ["metrics.span=full"]),
        ("mlp_mean", []),
        ("attn_zero", []),
    ],
)
def test_the_exact_kinds_are_screened_from_the_command_line(cli_run, capsys, ablation, more):
    keys = ["ablation.screen=attribution", "ablation.screen_top=1", "ablation.screen_random=3"]
    directory, impact = cli_run(f"ablation={ablation}", *keys, *more)
    note = json.loads((directory / "metrics" / "summary.json").read_text())["notes"]["attribution"]
    sites = [column for column in ("layer", "head") if column in impact]
    assert len(impact[sites].drop_duplicates()) == note["measured"] <= 4
    assert note["recall"]["text"] in " ".join(capsys.readouterr().out.split())
    assert (directory / "metrics" / "attribution.parquet").exists()


def test_screening_from_the_command_line(cli_run):
    directory, impact = cli_run(
        "ablation=heads_zero",
        "ablation.scales=[0,0.5,1]",
        "ablation.screen=attribution",
        "ablation.screen_top=2",
        "ablation.screen_random=4",
    )
    assert impact[["layer", "head"]].drop_duplicates().shape[0] <= 6
    assert set(impact["scale"]) == {0.0, 0.5, 1.0}
    note = json.loads((directory / "metrics" / "summary.json").read_text())["notes"]["attribution"]
    assert note["recall"]["of"] == 2
    assert (directory / "metrics" / "attribution.parquet").exists()
