"""The bare model reads and writes each place of many architectures where a hook written by hand does."""

import pytest
import torch

from tests.families import FAMILIES, N_LAYERS, hooked, tiny
from tiny_ablation.engine.bare.model import Bare

IDS = (5, 17, 90, 3, 41, 12, 66, 8, 31, 77)


@pytest.fixture(scope="module")
def models():
    held = {}

    def get(name):
        if name not in held:
            held.clear()
            held[name] = tiny(name)
        return held[name]

    return get


def changed(x):
    """No multiple of `x`, and different for each token and coordinate: norms and softmaxes must not undo it."""
    return 0.3 * x + torch.linspace(-1, 1, x.shape[-1])


@torch.no_grad()
def by_hand(model, name, component, layer, unit):
    """Logits (tokens, vocabulary) with a unit changed, and what stood there before."""
    seen = []
    handle = hooked(model, name, component, layer, lambda x: seen.append(x.reshape(len(IDS), -1)) or changed(x), unit)
    try:
        return model(torch.tensor([IDS])).logits[0], seen[0]
    finally:
        handle.remove()


@pytest.mark.parametrize("name", FAMILIES)
def test_every_place_of_every_family(models, name):
    model = models(name)
    bare = Bare(model)
    plain = bare.run(IDS).logits[0]
    torch.testing.assert_close(plain, model(torch.tensor([IDS])).logits[0], atol=1e-4, rtol=1e-4)
    for component in FAMILIES[name].places:
        for layer, unit in ((0, 1), (N_LAYERS - 1, 0)):
            unit = min(unit, 0 if component in ("attn_out", "mlp_out") else unit)
            if component in ("k", "v") and name.endswith("mqa"):
                unit = 0
            expected, there = by_hand(model, name, component, layer, unit)
            seen = []

            def tap(x, unit=unit, seen=seen):
                seen.append(x[0, :, unit])
                new = x.clone()
                new[:, :, unit] = changed(new[:, :, unit])
                return new

            found = bare.run(IDS, 1, {(component, layer): tap}).logits[0]
            torch.testing.assert_close(seen[0], there, atol=1e-4, rtol=1e-4, msg=f"{name} {component} {layer}")
            torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-4, msg=f"{name} {component} {layer}")
            assert (found - plain).abs().max() > 1e-2, (name, component, layer)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_parts_add_up_to_the_residual_stream(models, name):
    bare, seen = Bare(models(name)), {}

    def keep(place):
        return lambda x: seen.update({place: x[0, :, 0]})

    places = [(c, 1) for c in ("resid_pre", "attn_out", "mlp_out", "resid_post")]
    bare.run(IDS, 1, {place: keep(place) for place in places})
    total = seen["resid_pre", 1] + seen["attn_out", 1] + seen["mlp_out", 1]
    torch.testing.assert_close(total, seen["resid_post", 1], atol=1e-4, rtol=1e-4)
