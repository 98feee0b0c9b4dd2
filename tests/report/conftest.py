"""A made-up run that looks like a real one: few strong heads, many that do next to nothing."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

METRICS = ("logit_diff", "kl_div")
HOSTILE = "<script>alert(1)</script> $\\frac{1}{$ [red]x[/red] \"'&\x1b[31m"


def impact(
    layers: int = 30,
    heads: int = 9,
    scales: tuple[float, ...] = (0.0, 0.5, 1.0),
    *,
    model: str = "smollm2_135m",
    dataset: str = "facts",
    strong: int = 14,
) -> pd.DataFrame:
    rng = np.random.default_rng([layers, heads, strong])
    base = rng.normal(0, 0.03, (layers, heads))
    strong = min(strong, layers * heads // 2)
    picked = rng.choice(layers * heads, strong, replace=False)
    base.flat[picked] += rng.choice([-1, -1, -1, 1], strong) * rng.uniform(0.3, 1.3, strong)
    width = rng.uniform(0.04, 0.25, (layers, heads))
    rows = []
    for metric in METRICS:
        for scale in scales:
            for layer in range(layers):
                for head in range(heads):
                    effect = (1 - scale) * base[layer, head]
                    half = (1 - scale) * width[layer, head]
                    rows.append(_row(metric, scale, layer, head, effect, half, model, dataset))
    return pd.DataFrame(rows)


def _row(metric, scale, layer, head, effect, half, model, dataset):
    baseline = 3.412 if metric == "logit_diff" else 0.0
    delta = effect if metric == "logit_diff" else 0.2 * abs(effect)
    return {
        "run_id": "r0123456789",
        "seed": 0,
        "layer": layer,
        "head": head,
        "scale": scale,
        "metric": metric,
        "value": baseline + delta,
        "condition": dataset,
        "model": model,
        "dataset": dataset,
        "replacement": "scale",
        "positions": "all",
        "direction": "ablate",
        "n": 120,
        "baseline": baseline,
        "delta": delta,
        "ci_low": delta - 1.1 * half,
        "ci_high": delta + 0.9 * half,
        "ci_shape": "interval",
        "shrunken": 0.8 * delta,
        "selected_low": delta - 1.3 * half,
        "selected_high": delta + 1.1 * half,
        "p_value": float(np.exp(-4 * (abs(effect) / max(half, 1e-9)))),
        "q_value": min(1.0, 2.5 * float(np.exp(-4 * (abs(effect) / max(half, 1e-9))))),
        "null": "the change is as often below zero as above",
        "granularity": "head",
        "component": "hook_z",
        "set": "single",
    }


def layer_impact() -> pd.DataFrame:
    rows = impact(12, 2, (0.0,)).drop(columns="granularity")
    rows["head"] = rows["head"].map({0: "attn_out", 1: "mlp_out"})
    return rows.rename(columns={"head": "granularity"}).drop(columns="scale")


def top(table: pd.DataFrame, limit: int = 10) -> list[dict]:
    rows = table[(table["metric"] == "logit_diff") & (table["scale"] != 1.0)]
    order = rows["delta"].abs().sort_values(ascending=False, kind="stable").index[:limit]
    names = ["layer", "head", "scale", "delta", "ci_low", "ci_high", "ci_shape", "p_value", "q_value", "value"]
    names += ["shrunken", "selected_low", "selected_high"]
    return json.loads(rows.loc[order, names].to_json(orient="records"))


def summary(table: pd.DataFrame, **changes) -> dict:
    return {
        "schema": 1,
        "run_id": "r0123456789",
        "condition": str(table["condition"].iloc[0]),
        "model": str(table["model"].iloc[0]),
        "dataset": str(table["dataset"].iloc[0]),
        "kind": "heads_zero",
        "primary": "logit_diff",
        "seed": 0,
        "n_examples": 120,
        "n_groups": 11,
        "baseline_of": "the clean prompt, un-intervened",
        "split": "all",
        "intervention": {
            "granularity": "head",
            "component": "hook_z, the head's output before the output projection",
            "value": "zero (scales 0, 0.5)",
            "positions": "all",
            "direction": "ablate in the clean run, read the clean answer",
            "set": "single site",
        },
        "baseline": {
            "logit_diff": {"mean": 3.412, "ci_low": 3.1, "ci_high": 3.72},
            "kl_div": {"mean": 0.0, "ci_low": 0.0, "ci_high": 0.0},
            "accuracy": {"mean": 0.742, "ci_low": 0.683, "ci_high": 0.8},
        },
        "metrics": {
            "logit_diff": {"mean_delta": -0.031, "ci_low": -0.04, "ci_high": -0.02},
            "kl_div": {"mean_delta": 0.012, "ci_low": 0.01, "ci_high": 0.015},
        },
        "top": top(table) if "scale" in table and "head" in table else [],
        "null": "the change is as often below zero as above (signs flipped by group)",
        "family_size": 540,
        "resolution": None,
        "seed_effect": "draws examples",
        "warnings": [],
        **changes,
    }


PROVENANCE = {
    "config_hash": "c" * 64,
    "weights_hash": "e" * 64,
    "git_commit": None,
    "versions": {"torch": "2.13.0", "plotly": None},
    "machine": {"cpu": "Some CPU", "cores": 2, "device": "cpu"},
    "argv": ["tiny-ablate", "ablation=heads_zero", "dataset=facts", "condition=my tag"],
    "started": "2025-01-01T00:00:00+00:00",
    "seconds": 61.2,
}


def write_run(directory, table: pd.DataFrame, name: str = "head_impact", **changes):
    """A run directory as `app` leaves it when the report is written."""
    (directory / "metrics").mkdir(parents=True)
    table.to_parquet(directory / "metrics" / f"{name}.parquet", index=False)
    (directory / "metrics" / "summary.json").write_text(json.dumps(summary(table, **changes)), encoding="utf-8")
    (directory / "provenance.json").write_text(json.dumps(PROVENANCE), encoding="utf-8")
    (directory / "config.yaml").write_text("seed: 0\nmodel:\n  name: smollm2_135m\n", encoding="utf-8")
    return directory


@pytest.fixture(scope="session")
def fake() -> SimpleNamespace:
    """The generators of this file; test modules in sub-folders cannot import it."""
    return SimpleNamespace(
        impact=impact, layer_impact=layer_impact, top=top, summary=summary, write_run=write_run, hostile=HOSTILE
    )
