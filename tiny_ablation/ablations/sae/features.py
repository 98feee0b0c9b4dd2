"""The tables of an autoencoder's features, and what has to be read beside their effects."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tiny_ablation.run.id_columns import named
from tiny_ablation.run.measure import Measured
from tiny_ablation.run.plan import Analysis
from tiny_ablation.run.prepare import PreparedRun
from tiny_ablation.stats.project import project

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tiny_ablation.sae.panel import FeatureFacts


def analyse(prepared: PreparedRun, measured: Sequence[Measured]) -> Analysis:
    """`features`, `feature_examples` and `feature_map`, where features were measured; notes on the autoencoder."""
    own = next((m for m in measured if m.arm.features is not None), None)
    tables = (
        {}
        if own is None
        else {
            "features": features_table(prepared, own, measured),
            "feature_examples": examples_table(prepared, own),
            "feature_map": map_table(prepared, own),
        }
    )
    noted = next(m.arm.notes["sae"] for m in measured if "sae" in m.arm.notes)
    return Analysis(tables, notes={"sae": {**noted, **beside(prepared, own, measured, noted["text"])}})


def features_table(prepared: PreparedRun, own: Measured, measured: Sequence[Measured]) -> pd.DataFrame:
    """A row per measured feature: why it was chosen, what it does on text and prompts, where it stands among random ones."""
    facts = _facts(own)
    percentiles = _percentiles(prepared, own, measured)
    return named(
        prepared,
        pd.DataFrame(
            {
                "layer": np.full(len(facts.features), facts.layer, dtype="int32"),
                "feature": np.array([f.number for f in facts.features], dtype="int32"),
                "chosen_by": [f.chosen_by for f in facts.features],
                "attribution": [f.attribution for f in facts.features],
                "frequency_text": [float(facts.frequency[f.number]) for f in facts.features],
                "frequency_prompts": [f.frequency_prompts for f in facts.features],
                "difference": [f.difference for f in facts.features],
                "percentile_random": [percentiles.get(f.number, np.nan) for f in facts.features],
                "largest": [f.largest for f in facts.features],
                "histogram": [json.dumps(list(f.histogram)) for f in facts.features],
                "promoted": [json.dumps(list(f.promoted), ensure_ascii=False) for f in facts.features],
                "suppressed": [json.dumps(list(f.suppressed), ensure_ascii=False) for f in facts.features],
            }
        ),
    )


def examples_table(prepared: PreparedRun, own: Measured) -> pd.DataFrame:
    """A row per feature and text in which it is strongest: the tokens, and its activation at each, as JSON lists."""
    rows = [
        {
            "feature": f.number,
            "rank": rank,
            "tokens": json.dumps(list(shown.tokens), ensure_ascii=False),
            "activations": json.dumps(list(shown.activations)),
        }
        for f in _facts(own).features
        for rank, shown in enumerate(f.examples)
    ]
    frame = pd.DataFrame(rows, columns=["feature", "rank", "tokens", "activations"])
    return named(prepared, frame.astype({"feature": "int32", "rank": "int32"}))


def map_table(prepared: PreparedRun, own: Measured) -> pd.DataFrame:
    """A row per feature of the autoencoder: its place on the map of decoder directions, and how often it is active on text."""
    facts = _facts(own)
    places, how = project(facts.directions, prepared.spec.settings.root.seed)
    return named(
        prepared,
        pd.DataFrame(
            {
                "feature": np.arange(len(places), dtype="int32"),
                "x": places[:, 0],
                "y": places[:, 1],
                "frequency_text": facts.frequency,
                "method": how,
            }
        ),
    )


def beside(prepared: PreparedRun, own: Measured | None, measured: Sequence[Measured], quality: str) -> dict[str, Any]:
    """The effect of splicing the autoencoder in with no feature touched, the controls, and all of it in lines for people.

    Args:
        prepared: the run.
        own: the arm of the features; None where the autoencoder alone was measured.
        measured: all arms.
        quality: of the autoencoder, in a sentence.
    """
    name = prepared.metrics[0].name
    spliced = _spliced(measured, name)
    controls = {m.arm.controls_of: {"n": len(m.arm.rows), **_sizes(m.mean_delta(name))} for m in measured if m.arm.controls_of}
    features = {} if own is None else _sizes(own.mean_delta(name))
    lines = [quality]
    if spliced is not None:
        lines.append(f"spliced in with no feature touched, without its error: mean change in {name} {spliced:+.3f}")
    if features:
        sizes = {"these features": features} | {f"{c['n']} {which}": c for which, c in controls.items()}
        lines.append("size of effects, mean (largest): " + "; ".join(_words(*each) for each in sizes.items()))
    return {"splice_effect": spliced, "controls": controls, "effects": features, "lines": lines}


def _words(what: str, sizes: Mapping[str, float]) -> str:
    return f"{what} {sizes['mean_size']:.3f} ({sizes['largest_size']:.3f})"


def _facts(own: Measured) -> "FeatureFacts":
    assert own.arm.features is not None
    return own.arm.features


def _sizes(effects: "NDArray[np.float64]") -> dict[str, float]:
    return {"mean_size": float(np.abs(effects).mean()), "largest_size": float(np.abs(effects).max())}


def _spliced(measured: Sequence[Measured], metric: str) -> float | None:
    """The mean effect of the reconstruction without its error."""
    for m in measured:
        for row, effect in zip(m.arm.rows, m.mean_delta(metric), strict=True):
            if row.described.value == "splice":
                return float(effect)
    return None


def _percentiles(prepared: PreparedRun, own: Measured, measured: Sequence[Measured]) -> dict[int, float]:
    """For each feature the share of random features whose effect is smaller in size, times 100."""
    name = prepared.metrics[0].name
    random = [m for m in measured if m.arm.controls_of.startswith("random")]
    if not random:
        return {}
    others = np.abs(random[0].mean_delta(name))
    out: dict[int, float] = {}
    for row, effect in zip(own.arm.rows, np.abs(own.mean_delta(name)), strict=True):
        below = (others < effect).mean() + 0.5 * (others == effect).mean()
        out.setdefault(int(row.key["feature"]), float(100 * below))
    return out
