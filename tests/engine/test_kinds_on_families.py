"""Every kind of ablation, as it plans its own runs, on the architectures that differ most, against hooks put on by hand.

`test_families` holds each component and replacement; this holds what the kinds make of them: which rows, draws, sources, pairs,
sets and paths. Prompts of mixed lengths, every position; a sample of the rows of each kind.
"""

import importlib
from typing import Any

import pytest
from omegaconf import OmegaConf

from tests.engine.test_families import Judge, against_judge, build, prompts
from tests.families import N_HEADS, N_LAYERS
from tiny_ablation.ablations.registry import all_ablations, find_ablation
from tiny_ablation.ablations.shared.head_ranking import HeadRanking
from tiny_ablation.run.plan import PlanContext, ReferenceSet

FAMILIES = ("llama", "gpt2", "neox", "gemma3", "olmo2", "granite", "phi3", "falcon_rw", "mixtral", "mistral")
NAMES = [name if name == "gemma3" else pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES]
COMPONENTS, MEANS = ("z", "q", "k", "v"), ("overall", "position", "template", "template_position")
HEADS = [{"component": c, "positions": p} for c in COMPONENTS for p in ("all", "last", "subject")]
RESAMPLED = [{"draws": 2, "positions": p} for p in ("all", "last")]
KEYS: dict[str, list[dict]] = {
    "heads_zero": [{**keys, "scales": [0.0, 0.5]} for keys in HEADS],
    "heads_mean": [{**keys, "mean": MEANS[i % 4]} for i, keys in enumerate(HEADS)],
    "heads_resample": [{**keys, "component": c} for keys in RESAMPLED for c in COMPONENTS],
    "heads_pair_zero": [{"of": ["0.1", "1.2", "2.3"], "positions": p} for p in ("all", "last")],
    "heads_set_zero": [
        {"sets": {"a": ["0.1", "L1H2"]}, "n_random": 2, "keep": k, "positions": p} for k, p in ((False, "all"), (True, "last"))
    ],
    "circuit": [{"from_run": "earlier", "replacement": r, "n_random": 2, "members": 2} for r in ("mean", "zero")],
    **{f"{part}_zero": [{"positions": p} for p in ("all", "subject")] for part in ("mlp", "attn")},
    **{f"{part}_mean": [{"mean": m} for m in MEANS] for part in ("mlp", "attn")},
    **{f"{part}_resample": RESAMPLED for part in ("mlp", "attn")},
    "heads_optimal": [{"component": c, "steps": 2, "layers": [0, 2]} for c in ("z", "k")],
    **{f"{part}_optimal": [{"steps": 2, "positions": "last"}] for part in ("mlp", "attn")},
    "activation_patch": [
        {"granularity": g, "positions": p, "direction": d}
        for g in ("layer_resid", "attn_out", "mlp_out", "head_out")
        for p, d in (("each", "clean_to_corrupt"), ("last", "corrupt_to_clean"))
    ],
    "causal_trace": [{"noise_draws": 2, "window": w} for w in (1, 10)],
    "attn_knockout": [
        {"edges": ["subject to last", "rest to last", "first to all"], "window": 1},
        {"edges": ["all to last"], "window": 9},
    ],
    "direction": [
        {"n_random": 1, "positions": "subject"},
        {"operation": "add", "factor": -1.0, "read_at": "all", "n_random": 1},
        {"operation": "scale", "factor": 2.0, "everywhere": True, "n_random": 0},
    ],
    "path_patch": [
        *({"receivers": ["L2H1"], "input": i} for i in ("q", "k", "v")),
        {"through_mlps": True},
        {"positions": "last"},
    ],
}
OTHERWISE = {
    "attribution",
    "sae_train",
    "sae_toggle",
    "model_diff",
    "attn_pattern",
}  # gradients: `test_families`; autoencoders: `tests.sae`; two models and softmaxes replaced by hand: `tests.ablations`
ROWS = 9  # of each arm, spread evenly
PAIRED = (0, 4, 2, 5)  # the prompts of which another has the same length


@pytest.fixture(autouse=True)
def ranking(monkeypatch):
    effects = {(layer, head): (-1.0) ** head * (layer + head / 7) for layer in range(N_LAYERS) for head in range(N_HEADS)}
    module = importlib.import_module("tiny_ablation.ablations.circuit.design")
    monkeypatch.setattr(module, "head_ranking", lambda *_: HeadRanking("r", "logit_diff", effects, frozenset()))


def context(network, clean, corrupt):
    names = [f"t{i % 2}" for i in range(len(clean))]
    held = ReferenceSet(list(clean), names, ["train"] * len(clean), len(clean), corrupt)
    return PlanContext(
        network=network,
        clean=clean,
        corrupt=corrupt,
        groups=[p.name for p in clean],
        templates=names,
        seed=0,
        full=False,
        reference=lambda _n: held,
    )


def test_every_kind_is_held():
    assert {*KEYS, *OTHERWISE} == set(all_ablations())


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("name", NAMES)
def test_a_kind_is_what_hooks_by_hand_give(name, kind):
    judge, network, moved = Judge(name), build(name), 0.0
    found = find_ablation(kind)
    for keys in KEYS[kind]:
        cfg: Any = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(found.config), {"kind": kind, **keys}))
        found.check(cfg)
        paired = kind.endswith("resample") and keys["positions"] == "all"
        clean, corrupt = (
            [side[i] for i in (PAIRED if paired else range(len(side)))] for side in (prompts(), prompts(first=60))
        )
        for arm in found.plan(cfg, context(network, clean, corrupt)):
            runs = [run for row in arm.rows for run in row.runs]
            chosen = runs[:: -(-len(runs) // ROWS)] if runs else []
            moved = max(moved, against_judge(judge, network, arm.prompts, chosen, base_intervention=arm.base_intervention))
    assert moved > 1e-3
