import numpy as np
import pytest
import torch

from tiny_ablation.engine.edits import Edit, Intervention
from tiny_ablation.engine.executor import Executor
from tiny_ablation.metrics.registry import metric
from tiny_ablation.sae.candidates import OnPrompts, choose, matched_controls, on_prompts, random_controls
from tiny_ablation.sae.site import Site
from tiny_ablation.sae.splice import ScaleFeature


@pytest.fixture(scope="module")
def looked_at(toy_networks, make_autoencoder, make_prompts):
    network = toy_networks["llama"]
    prompts = [p for p in make_prompts(300, n=10) if len(p.ids) > 2]
    found = make_autoencoder(32, site=Site("resid_post", 1), n=30)
    other = list(reversed(prompts))
    return (network, found, prompts, other, on_prompts(network, found, prompts, other, "after_first", full=False))


def test_numbers_are_those_of_the_plain_model(looked_at):
    network, found, clean, corrupt, got = looked_at

    def written(prompts):
        rows = []
        for prompt in prompts:
            out = network.hf(input_ids=torch.tensor([prompt.ids]), output_hidden_states=True)
            seen = {}
            handle = network.blocks[1].register_forward_hook(lambda _m, _a, o, seen=seen: seen.update(x=o))
            network.hf(input_ids=torch.tensor([prompt.ids]))
            handle.remove()
            x = seen["x"][0] if isinstance(seen["x"], tuple) else seen["x"]
            rows.append(found.sae.encode(x[0, 1:]))
            assert out.logits is not None
        return torch.cat(rows)

    acts, norm = written(clean), found.sae.W_dec.norm(dim=1)
    np.testing.assert_allclose(got.frequency, (acts > 0).double().mean(0), atol=1e-9)
    np.testing.assert_allclose(got.activation, (acts.mean(0) * norm).numpy(), rtol=1e-4, atol=1e-5)
    change = (acts.mean(0) - written(corrupt).mean(0)) * norm
    np.testing.assert_allclose(got.difference, change.numpy(), rtol=1e-3, atol=1e-4)


def test_attribution_is_the_first_order_of_the_exact_effect(looked_at):
    """A small step along the way to zero, measured exactly, is that part of the estimate."""
    network, found, clean, _, got = looked_at
    features, part = got.alive[:6], 1e-3
    plan = [
        Intervention((Edit("resid_post", 1, None, ScaleFeature(found, feature=int(f), factor=1 - part), "after_first"),))
        for f in features
    ]
    total = np.zeros(len(plan))
    for result in Executor(network, clean, plan, [metric("logit_diff")]):
        total += (result.values["logit_diff"] - result.baseline["logit_diff"]).sum(1).numpy()
    exact = total / len(clean) / part
    np.testing.assert_allclose(got.attribution[features], exact, rtol=0.02, atol=0.02)


def made(**columns):
    n = len(next(iter(columns.values())))
    whole = {name: np.zeros(n) for name in ("frequency", "activation", "difference", "attribution")}
    return OnPrompts(**{**whole, **{name: np.array(v, dtype=float) for name, v in columns.items()}})


def test_rankings_take_turns_and_silent_features_are_left_out():
    found = made(
        frequency=[1, 1, 1, 1, 0], activation=[9, 1, 1, 1, 99], difference=[0, 0, -5, 1, 0], attribution=[1, -7, 0, 0, 0]
    )
    assert choose(found, 3) == {1: "attribution", 0: "activation", 2: "difference"}
    assert set(choose(found, 10)) == {0, 1, 2, 3}


def test_controls_are_others():
    found = made(
        frequency=[0.5, 0.49, 0.01, 0.5, 0.0], activation=[2, 2.1, 0.1, 40, 2], difference=[0] * 5, attribution=[3, 0, 0, 0, 0]
    )
    assert matched_controls(found, [0], 3) == [1]
    assert set(random_controls(found, [0], 2, seed=0)) <= {1, 2, 3}
    assert random_controls(found, [0], 2, seed=0) == random_controls(found, [0], 2, seed=0)
