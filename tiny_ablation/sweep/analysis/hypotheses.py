"""Tests of the declared hypotheses, with one false discovery rate over all of them.

Each test names its null. A claim that has several parts (in all conditions; this way and the reverse) is an intersection-union
test: its p-value is the largest of its parts', since every part must hold (Berger 1982).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tiny_ablation.config.schema import SweepConfig
from tiny_ablation.stats.fdr import q_values
from tiny_ablation.store.schema import SCHEMA_VERSION
from tiny_ablation.sweep.analysis import hypotheses_digest
from tiny_ablation.sweep.analysis.declared import Hypothesis
from tiny_ablation.sweep.analysis.dissociation import double_dissociation
from tiny_ablation.sweep.analysis.effect_in_all import effect_in_all
from tiny_ablation.sweep.analysis.effects import Effects
from tiny_ablation.sweep.analysis.examples import Examples
from tiny_ablation.sweep.analysis.profile_difference import profiles_differ
from tiny_ablation.sweep.analysis.verdict import MeasuredGrid, NotTestable, Verdict

CORRECTION = "Benjamini-Hochberg over all declared hypotheses that could be tested"


_TESTS: Mapping[str, Callable[..., Verdict]] = {
    "effect_in_all": effect_in_all,
    "double_dissociation": double_dissociation,
    "profiles_differ": profiles_differ,
}


def judge_hypotheses(
    declared: Sequence[Hypothesis],
    grids: Sequence[Effects],
    examples: Sequence[Examples],
    cfg: SweepConfig,
    metrics: Sequence[str],
) -> dict[str, Any]:
    """The content of `hypotheses.json`, from the grids (one per impact table and model) and their examples.

    `cfg.q` is the level; a hypothesis without a metric is about the first of `metrics`.
    """
    measured = [MeasuredGrid(*each) for each in zip(grids, examples, strict=True)]
    tested = [_test(hypothesis, measured, metrics) for hypothesis in declared]
    q = q_values(np.array([t["p_value"] for t in tested], dtype=np.float64))
    for result, value in zip(tested, q, strict=True):
        result["q_value"] = float(value)
        result["supported"] = None if np.isnan(value) else bool(value <= cfg.q)
    return {
        "schema": SCHEMA_VERSION,
        "digest": hypotheses_digest(cfg.hypotheses),
        "level": cfg.q,
        "correction": CORRECTION,
        "family_size": int((~np.isnan(q)).sum()),
        "hypotheses": tested,
        "declared": dict(cfg.hypotheses or {}),
    }


def _test(hypothesis: Hypothesis, measured: Sequence[MeasuredGrid], metrics: Sequence[str]) -> dict[str, Any]:
    metric = hypothesis.metric or (metrics[0] if metrics else None)
    head: dict[str, Any] = {"name": hypothesis.name, "test": hypothesis.test, "metric": metric}
    empty = {"statement": None, "null": None, "p_value": float("nan"), "q_value": None, "supported": None}
    try:
        if metric is None:
            raise NotTestable("no run finished")
        found = _TESTS[hypothesis.test](hypothesis.claim, measured, metric)
    except NotTestable as reason:
        return head | empty | {"resolution": None, "parts": [], "notes": [f"not tested: {reason}"]}
    return head | empty | vars(found)
