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
from tiny_ablation.stats.percentile import percentile_among
from tiny_ablation.stats.project import project

if TYPE_CHECKING:
    from numpy.typing import NDArray


def analyse(prepared: PreparedRun, measured: Sequence[Measured]) -> Analysis:
    """`features`, `feature_examples` and `feature_map`, where features were measured; notes on the autoencoder.

    The notes are the effect of splicing the autoencoder in with no feature touched, the controls, and all of it in lines for
    people.
    """
    own = next((m for m in measured if m.arm.features is not None), None)
    name = prepared.metrics[0].name
    noted = next(m.arm.notes["sae"] for m in measured if "sae" in m.arm.notes)
    effects = ((row, effect) for m in measured for row, effect in zip(m.arm.rows, m.mean_delta(name), strict=True))
    spliced = next((float(effect) for row, effect in effects if row.described.value == "splice"), None)
    controls = {m.arm.controls_of: {"n": len(m.arm.rows), **_sizes(m.mean_delta(name))} for m in measured if m.arm.controls_of}
    features = {} if own is None else _sizes(own.mean_delta(name))
    lines = [noted["text"]]
    if spliced is not None:
        lines.append(f"spliced in with no feature touched, without its error: mean change in {name} {spliced:+.3f}")
    if features:
        sizes = {"these features": features} | {f"{c['n']} {which}": c for which, c in controls.items()}
        each = (f"{what} {of['mean_size']:.3f} ({of['largest_size']:.3f})" for what, of in sizes.items())
        lines.append(f"size of effects, mean (largest): {'; '.join(each)}")
    beside = {"splice_effect": spliced, "controls": controls, "effects": features, "lines": lines}
    tables = {} if own is None else _tables(prepared, own, measured)
    return Analysis(tables, notes={"sae": {**noted, **beside}})


def _sizes(effects: "NDArray[np.float64]") -> dict[str, float]:
    return {"mean_size": float(np.abs(effects).mean()), "largest_size": float(np.abs(effects).max())}


def _tables(prepared: PreparedRun, own: Measured, measured: Sequence[Measured]) -> Mapping[str, pd.DataFrame]:
    """The tables of measured features, of the texts in which they are strongest, and of the map of all of them.

    `features` has a row per measured feature: why it was chosen, what it does on text and prompts, and where its effect stands
    among those of random features. `feature_examples` has one per feature and text, with the tokens and the activation at each
    as JSON lists. `feature_map` has one per feature of the autoencoder: its place on the map of decoder directions, and how
    often it is active on text.
    """
    facts = own.arm.features
    assert facts is not None
    shown = facts.features
    percentiles = _percentiles(prepared.metrics[0].name, own, measured)
    features = {
        "layer": np.full(len(shown), facts.layer, dtype="int32"),
        "feature": np.array([f.number for f in shown], dtype="int32"),
        "chosen_by": [f.chosen_by for f in shown],
        "attribution": [f.attribution for f in shown],
        "frequency_text": [float(facts.frequency[f.number]) for f in shown],
        "frequency_prompts": [f.frequency_prompts for f in shown],
        "difference": [f.difference for f in shown],
        "percentile_random": [percentiles.get(f.number, np.nan) for f in shown],
        "largest": [f.largest for f in shown],
        "histogram": [json.dumps(list(f.histogram)) for f in shown],
        "promoted": [_json(f.promoted) for f in shown],
        "suppressed": [_json(f.suppressed) for f in shown],
    }
    texts = [
        (f.number, rank, _json(t.tokens), json.dumps(list(t.activations))) for f in shown for rank, t in enumerate(f.examples)
    ]
    examples = pd.DataFrame(texts, columns=["feature", "rank", "tokens", "activations"])
    places, how = project(facts.directions, prepared.spec.settings.root.seed)
    whole = {
        "feature": np.arange(len(places), dtype="int32"),
        "x": places[:, 0],
        "y": places[:, 1],
        "frequency_text": facts.frequency,
        "method": how,
    }
    return {
        "features": named(prepared, pd.DataFrame(features)),
        "feature_examples": named(prepared, examples.astype({"feature": "int32", "rank": "int32"})),
        "feature_map": named(prepared, pd.DataFrame(whole)),
    }


def _json(texts: Sequence[Any]) -> str:
    return json.dumps(list(texts), ensure_ascii=False)


def _percentiles(name: str, own: Measured, measured: Sequence[Measured]) -> dict[int, float]:
    """For each feature where the size of its first effect stands among those of random features; empty without these."""
    random = next((m for m in measured if m.arm.controls_of.startswith("random")), None)
    out: dict[int, float] = {}
    if random is not None:
        others = np.abs(random.mean_delta(name))
        for row, effect in zip(own.arm.rows, np.abs(own.mean_delta(name)), strict=True):
            out.setdefault(int(row.key["feature"]), percentile_among(float(effect), others))
    return out
