"""A made-up sweep as the aggregation leaves it: two heads matter in every condition, others in one or two."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd

from tiny_ablation.store.sweepdir import Cell, SweepPlan, write_plan

CONDITIONS = ("facts", "negation", "ioi")
METRIC = "logit_diff"


def write_sweep(
    path: Path,
    conditions=CONDITIONS,
    seeds=(0, 1, 2),
    *,
    layers=30,
    heads=9,
    k=10,
    model="smollm2_135m",
    failed=(),
    table="head",
    replicates=True,
    hypotheses=(),
):
    """Write `sweep.json` and `artifacts/cross_condition/`; returns the directory."""
    cells = [
        Cell(i * len(seeds) + j, f"{re.sub(r'[^a-z]', '', c)}/s{s}", c, s, (f"dataset={c}", f"seed={s}"))
        for i, c in enumerate(conditions)
        for j, s in enumerate(seeds)
    ]
    notes = {"argv": ["tiny-ablate", "-m", f"dataset={','.join(conditions)}", "seed=0,1,2"]}
    write_plan(path, SweepPlan("p" * 64, ("dataset", "seed"), tuple(cells), {"k": k, "op": "intersection"}, (), notes))
    cross = path / "artifacts" / "cross_condition"
    cross.mkdir(parents=True, exist_ok=True)
    index = ["layer", "head"] if table == "head" else ["layer", "granularity"]
    sites = [(a, b if table == "head" else ("attn_out", "mlp_out")[b]) for a in range(layers) for b in range(heads)]
    matrix = _matrix(conditions, seeds, sites, index, model)
    means = _means(matrix, index, replicates)
    matrix.to_parquet(cross / f"{table}_matrix.parquet", index=False)
    means.to_parquet(cross / f"{table}_means.parquet", index=False)
    entry = _entry(means, conditions, index, f"{table}_impact", model, k)
    kept = [{name: member[name] for name in index} for member in entry["members"]]
    content = {
        "invariants": {
            "k": k,
            "metrics": [METRIC],
            "heads": kept if table == "head" else [],
            "layers": [],
            "op": "intersection",
            "kept": "in the top set of every condition",
            "direction": "both",
            "convention": {METRIC: "a fall hurts"},
            "level": 0.05,
            "n_resamples": 200,
            "sets": [entry],
            "notes": [],
        },
        "geometry": {"schema": 1, "metrics": [], "conditions": [_geometry(means, conditions, index, f"{table}_impact", model)]},
        "hypotheses": {
            "schema": 1,
            "digest": "h" * 64,
            "level": 0.05,
            "correction": "Benjamini-Hochberg over all declared",
            "family_size": len(hypotheses),
            "hypotheses": list(hypotheses),
            "declared": {},
        },
        "summary": _summary(cells, conditions, seeds, failed, model, f"{table}_impact", replicates),
    }
    for name, value in content.items():
        (cross / f"{name}.json").write_text(json.dumps(value), encoding="utf-8")
    return path


def _matrix(conditions, seeds, sites, index, model):
    n, rng = len(sites), np.random.default_rng(7)
    shared = rng.normal(0, 0.04, n)
    shared[[min(4, n - 1), n // 2]] = -1.4, 0.9
    frames = []
    for condition in conditions:
        mine = shared + rng.normal(0, 0.08, n)
        mine[rng.choice(n, min(7, n // 3), replace=False)] -= rng.uniform(0.4, 0.9)
        for seed in seeds:
            delta = mine + rng.normal(0, 0.03, n)
            frames.append(
                pd.DataFrame(sites, columns=index).assign(
                    run_id="r",
                    seed=seed,
                    condition=condition,
                    model=model,
                    dataset=condition,
                    direction="clean",
                    metric=METRIC,
                    delta=delta,
                    value=3 + delta,
                    baseline=3.0,
                    ci_low=delta - 0.2,
                    ci_high=delta + 0.2,
                    n=120,
                )
            )
    rows = pd.concat(frames, ignore_index=True)
    return rows.assign(scale=0.0) if index[1] == "head" else rows


def _means(matrix, index, replicates):
    grouped = matrix.groupby(["condition", *index], sort=False)["delta"]
    means, spread = grouped.mean(), grouped.std()
    low, high = means - 2.5 * spread, means + 2.5 * spread
    n = matrix["seed"].nunique() if replicates else 1
    frame = pd.DataFrame({"delta": means, "ci_low": low, "ci_high": high, "n_seeds": n}).reset_index()
    return frame.assign(model=matrix["model"].iloc[0], direction="clean", metric=METRIC)


def _entry(means, conditions, index, table, model, k):
    tops = {c: _top(means, c, index, k) for c in conditions}
    first = tops[conditions[0]]
    kept = [site for site, _ in first if all(site in dict(tops[c]) for c in conditions)]
    n = len(means) // len(conditions)
    return {
        "table": table,
        "model": model,
        "metric": METRIC,
        "n_components": n,
        "size": len(kept),
        "overlap": len(kept),
        "unresolved": [],
        "members": [
            dict(zip(index, site, strict=True))
            | {
                "conditions": list(conditions),
                "stability": 0.97,
                "q_value": 0.001,
                "delta": {c: dict(tops[c])[site] for c in conditions},
            }
            for site in kept
        ],
        "chance": [
            {
                "null": "each condition's set is drawn at random from all components",
                "expected": k**3 / n**2,
                "p_value": 2e-5,
                "alike_when": "as large or larger",
                "method": "exact",
                "beyond_chance": True,
            }
        ],
        "agreement": {
            "kendalls_w": 0.61,
            "rbo_p": 0.9,
            "rbo_mean": 0.44,
            "rbo_min": 0.31,
            "conditions": list(conditions),
            "rbo": [],
        },
        "conditions": [
            {
                "condition": c,
                "direction": None,
                "n_seeds": 3,
                "size": k,
                "stability": 0.8,
                "members": [dict(zip(index, site, strict=True)) | {"delta": d, "stability": 0.9} for site, d in tops[c]],
            }
            for c in conditions
        ],
        "notes": [],
    }


def _top(means, condition, index, k):
    mine = means[means["condition"] == condition]
    order = mine["delta"].abs().sort_values(ascending=False).index[:k]
    return [(tuple(row[name] for name in index), row["delta"]) for row in mine.loc[order].to_dict("records")]


def _geometry(means, conditions, index, table, model):
    wide = means.pivot(index=index, columns="condition", values="delta")[list(conditions)]
    left, size, _ = np.linalg.svd((wide - wide.mean(axis=1).to_numpy()[:, None]).to_numpy().T, full_matrices=False)
    parts = [
        {
            "share_of_variance": float(size[i] ** 2 / (size**2).sum()),
            "loadings": [],
            "scores": {c: float(size[i] * left[j, i]) for j, c in enumerate(conditions)},
        }
        for i in range(len(conditions) - 1)
    ]
    return {
        "table": table,
        "model": model,
        "metric": METRIC,
        "names": list(conditions),
        "n_components": len(wide),
        "distance": (1 - wide.corr("spearman")).to_numpy().tolist(),
        "distance_is": "1 - Spearman's rank correlation",
        "principal_components": parts,
    }


def _summary(cells, conditions, seeds, failed, model, table, replicates):
    def cell(each):
        status = "failed" if each.dir in failed else "ok"
        return {
            "job": each.job,
            "dir": each.dir,
            "condition": each.condition,
            "seed": each.seed,
            "status": status,
            "error": "no prompt can be scored" if status == "failed" else None,
            "run_id": "r",
            "digest": "d",
        }

    told = [cell(each) for each in cells]
    counts = {s: sum(c["status"] == s for c in told) for s in ("ok", "failed")}
    numbers = {"mean": 3.1, "ci_low": 2.9, "ci_high": 3.3, "n_seeds": len(seeds), "seeds": {"low": 3.0, "high": 3.2}}
    return {
        "schema": 1,
        "plan_digest": "p" * 64,
        "varies": ["dataset", "seed"],
        "complete": not failed,
        "counts": {k: v for k, v in counts.items() if v},
        "failed": [c for c in told if c["status"] == "failed"],
        "missing": [],
        "interval": "mean over seeds with its 95 % interval over the examples of all of them",
        "conditions": {
            c: {
                "seeds": list(seeds),
                "n_planned": len(seeds),
                "model": model,
                "dataset": c,
                "kind": "heads_zero",
                "primary": METRIC,
                "seed_effect": "examples",
                "table": table,
                "replicates": replicates,
                "n_examples": 120,
                "baseline": {"accuracy": {**numbers, "mean": 0.7, "ci_low": 0.6, "ci_high": 0.8}, METRIC: numbers},
                "metrics": {METRIC: numbers},
                "warnings": [],
            }
            for c in conditions
        },
        "cells": told,
        "warnings": [],
    }
