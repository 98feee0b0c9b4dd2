"""Kinds with means, donors, layers and sets on the default model: grouped queries, thirty layers, real prompts."""

import pytest

from tiny_ablation.engine.prompts import Prompt
from tiny_ablation.interventions.plan import ReferenceSet
from tiny_ablation.interventions.registry import find_kind


def encode(tokenizer, prompt, target, foil):
    first = lambda text: tuple(tokenizer(text)["input_ids"][:1])  # noqa: E731
    return Prompt(tuple(tokenizer(prompt)["input_ids"]), first(target), first(foil), {}, prompt)


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("heads_zero", {"component": "q", "layers": [3], "heads": [8], "scales": [0.0]}),
        ("heads_mean", {"mean": "position", "layers": [15], "heads": [0, 2]}),
        ("heads_resample", {"component": "v", "layers": [20], "heads": [1], "draws": 2}),
        ("mlp_mean", {"layers": [14]}),
        ("mlp_zero", {"layers": [7]}),
        ("attn_zero", {"layers": [2]}),
        ("heads_set_zero", {"sets": {"a": ["3.1", "L20H2"]}, "n_random": 1}),
    ],
)
def test_agrees_with_the_reference(smollm2_network, make_context, against_reference, name, keys):
    tokenizer, kind = smollm2_network.model.tokenizer, find_kind(name)
    clean = [
        encode(tokenizer, "The capital of France is", " Paris", " Rome"),
        encode(tokenizer, "The capital of Japan is", " Tokyo", " Rome"),
    ]
    others = [encode(tokenizer, f"The capital of {country} is", " x", " y") for country in ("Spain", "Egypt")]
    context = make_context(smollm2_network, clean, reference=ReferenceSet(others, ["", ""], ["train"] * 2, 2))
    moved = [
        against_reference(smollm2_network, leg) for leg in kind.plan(kind.config(kind=name, **keys), context)
    ]
    assert max(moved) > 0.001
