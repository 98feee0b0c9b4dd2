"""Where the answer enters, and restoring against breaking: as the tables have it, and in words that follow the evidence."""

import re

import pandas as pd
import pytest

from tiny_ablation.ablations.patching.answers import balance, balance_sections, entry_sections
from tiny_ablation.report.figures.of_run import forest
from tiny_ablation.run.result import Result
from tiny_ablation.store.reader import load_run

RUN = (
    "model=toy",
    "dataset.n_examples=12",
    "ablation=activation_patch",
    "tracking=off",
    "verify=off",
    "device.threads=1",
    "stats.n_boot=200",
    "stats.n_perm=200",
    "hydra.run.dir=run",
)


def test_steps_are_differences_of_what_is_recovered(cli, tmp_path):
    done = cli(*RUN)
    assert done.code == 0
    run = load_run(tmp_path / "run")
    steps = run.summary["entry"]["steps"]
    recovered = run.impact.query("metric == 'recovered'").sort_values("layer")["delta"].tolist()
    assert [step["after"] for step in steps] == pytest.approx(recovered)
    assert [step["before"] for step in steps] == pytest.approx([0.0, *recovered[:-1]])
    assert recovered[-1] == pytest.approx(1, abs=1e-5)  # the last block's stream at the last token is the clean run
    for step in steps:
        assert step["step"] == pytest.approx(step["after"] - step["before"])
        assert step["low"] is None or step["low"] <= step["step"] <= step["high"]  # None: unbounded
    assert sum(step["largest"] for step in steps) == pytest.approx(1)
    assert "Where the answer enters" in done.out
    assert run.summary["baseline_of"] == "the corrupt prompt, un-patched"
    assert "the corrupt prompt, un-patched; 12 examples" in done.out


def test_it_is_said_of_the_whole_stack_of_residual_streams_alone(cli, tmp_path):
    for given in ("ablation.layers=[1]", "ablation.granularity=mlp_out", "ablation.direction=corrupt_to_clean"):
        assert cli(*RUN, given, "resume=false").code == 0
        assert "entry" not in load_run(tmp_path / "run").summary


def step(layer, before, after, largest, low=0.1):
    return {
        "layer": layer,
        "before": before,
        "after": after,
        "step": after - before,
        "low": low,
        "high": 1.0,
        "largest": largest,
    }


@pytest.mark.parametrize(
    ("largest", "low", "firm"), [(0.95, 0.1, True), (0.6, 0.1, False), (0.95, -0.1, False), (0.95, None, False)]
)
def test_the_block_is_named_where_the_evidence_carries_it(largest, low, firm):
    steps = [step(0, 0.0, 0.1, 0.0), step(1, 0.1, 0.9, largest, low), step(2, 0.9, 1.0, 1 - largest)]
    [section] = entry_sections({"positions": "last", "steps": steps})
    assert section.firm is firm
    assert section.headline.startswith("The answer enters the last token's residual stream at block 1:") is firm
    assert "90 % of the clean run's advantage behind it and 10 % before it" in section.headline
    assert entry_sections(None) == []


def table(*bounds):
    return pd.DataFrame(
        [
            {
                "layer": i,
                "granularity": "attn_out",
                "restoring": 0.5,
                "breaking": 0.5 - (low + high) / 2,
                "asymmetry": (low + high) / 2,
                "asymmetry_low": low,
                "asymmetry_high": high,
            }
            for i, (low, high) in enumerate(bounds)
        ]
    )


def test_sites_that_differ_are_counted_and_the_largest_is_named():
    [section] = balance_sections(balance(table((0.1, 0.3), (-0.9, -0.5), (-0.1, 0.1)), 0.95))
    assert section.firm
    assert section.headline.startswith("Restoring and breaking differ most at layer 1, attn_out")
    assert "Of 3 sites, 1 restore more" in section.text[0]
    assert "and 1 break" in section.text[0]


def test_no_more_than_chance_is_no_difference():
    ordinary = [(-0.1, 0.1)] * 39
    [section] = balance_sections(balance(table((0.1, 0.3), *ordinary), 0.95))
    assert not section.firm
    assert "no site differs beyond what chance would give" in section.headline
    assert balance_sections(balance(None, 0.95)) == []


def test_both_directions_are_answered_by_their_balance(cli, tmp_path):
    assert cli(*RUN, "ablation.direction=both", "ablation.granularity=attn_out").code == 0
    found = load_run(tmp_path / "run").summary["restoring_and_breaking"]
    frame = pd.read_parquet(tmp_path / "run/metrics/asymmetry.parquet")
    assert found["n"] == len(frame)
    assert found["more"] == (frame["asymmetry_low"] > 0).sum()
    run = load_run(tmp_path / "run")
    labels = [bar.label for bar in forest(Result(run.dir, run.impact, run.summary)).bars]
    assert len(set(labels)) == len(labels)  # a site stands there once for each direction
    assert "L1 attn_out (clean_to_corrupt)" in labels
    page = (tmp_path / "run/report.html").read_text()
    assert re.search(r"<th[^>]*>(<[^>]*>)*direction", page)
