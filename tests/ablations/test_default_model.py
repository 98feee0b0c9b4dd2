"""Every kind on the default model: grouped queries, thirty layers, real prompts."""

import pytest
from omegaconf import OmegaConf

from tiny_ablation.ablations.registry import find_ablation
from tiny_ablation.engine.prompts import Prompt
from tiny_ablation.run.plan import ReferenceSet


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
    tokenizer, kind = smollm2_network.model.tokenizer, find_ablation(name)
    clean = [
        encode(tokenizer, "The capital of France is", " Paris", " Rome"),
        encode(tokenizer, "The capital of Japan is", " Tokyo", " Rome"),
    ]
    others = [encode(tokenizer, f"The capital of {country} is", " x", " y") for country in ("Spain", "Egypt")]
    context = make_context(smollm2_network, clean, reference=ReferenceSet(others, ["", ""], ["train"] * 2, 2))
    moved = [against_reference(smollm2_network, arm) for arm in kind.plan(kind.config(kind=name, **keys), context)]
    assert max(moved) > 0.001


PAIRS = [
    ("The capital of France is", "The capital of Japan is", " Paris", " Tokyo"),
    ("Madrid is in Spain, and Cairo is in", "Madrid is in Spain, and Lima is in", " Egypt", " Peru"),
]


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        (
            "activation_patch",
            {"granularity": "head_out", "direction": "both", "layers": [12], "heads": [4], "positions": "all"},
        ),
        ("activation_patch", {"granularity": "layer_resid", "direction": "both", "layers": [9, 25], "positions": "last"}),
        (
            "activation_patch",
            {"granularity": "mlp_out", "direction": "clean_to_corrupt", "layers": [3], "positions": "subject"},
        ),
        ("activation_patch", {"granularity": "attn_out", "direction": "corrupt_to_clean", "layers": [20], "positions": "each"}),
        ("heads_pair_zero", {"pairs": [["0.4", "23.4"], ["3.1", "3.2"]]}),
        pytest.param("causal_trace", {"layers": [5], "noise_draws": 1, "window": 4}, marks=pytest.mark.slow),
        ("path_patch", {"layers": [2], "heads": [3], "receivers": ["L9H4"], "input": "q"}),
        ("path_patch", {"layers": [27], "heads": [0, 7]}),
    ],
)
def test_kinds_with_pairs_agree_with_the_reference(smollm2_network, make_context, against_reference, name, keys):
    tokenizer, kind = smollm2_network.model.tokenizer, find_ablation(name)
    sides = ([], [])
    for clean, corrupt, target, foil in PAIRS:
        for side, text in zip(sides, (clean, corrupt), strict=True):
            prompt = encode(tokenizer, text, target, foil)
            subject = next(i for i in range(len(prompt.ids)) if sides_differ(tokenizer, clean, corrupt, i))
            side.append(Prompt(prompt.ids, prompt.target, prompt.foil, {"subject": (subject,)}, clean))
    context = make_context(smollm2_network, sides[0], corrupt=sides[1])
    moved = [
        against_reference(smollm2_network, arm, base_intervention=arm.base_intervention)
        for arm in kind.plan(config(kind, keys), context)
    ]
    assert max(moved) > 0.001


def config(kind, keys):
    """A kind's config as Hydra would make it, names of choices turned into choices."""
    return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(kind.config(kind=kind.name)), keys))


def sides_differ(tokenizer, clean, corrupt, position):
    return tokenizer(clean)["input_ids"][position] != tokenizer(corrupt)["input_ids"][position]
