"""What autoencoders put into a run, on the architectures that differ most, against hooks put on by hand."""

import pytest
import torch
from transformers.models.granite.modeling_granite import GraniteRMSNorm

from tests.engine.test_families import CLOSE, Judge, against_judge, build, prompts
from tests.engine.test_kinds_on_families import NAMES
from tests.families import D_MODEL
from tiny_ablation.engine.edits import Edit, Intervention
from tiny_ablation.sae.site import Site
from tiny_ablation.sae.splice import AddFeature, ScaleFeature, Splice

# Not 15: without it the bare Granite itself moves by 5e-4 where weights change by half a unit in their last place; in float64,
# which holds it, it is compared below.
FEATURES = (0, 5, 10)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("component", ["resid_pre", "resid_post", "attn_out", "mlp_out"])
def test_features_are_what_hooks_by_hand_give(name, component, make_autoencoder):
    sae = make_autoencoder(D_MODEL, site=Site(component, 1))
    ways = [
        Splice(sae),
        Splice(sae, keep_error=False),
        *(ScaleFeature(sae, feature=f) for f in FEATURES),
        ScaleFeature(sae, keep_error=False, feature=3, factor=2.0),
        AddFeature(sae, feature=2, amount=3.0),
    ]
    plan = [Intervention((Edit(component, 1, None, way, at),)) for way in ways for at in ("all", "last")]
    assert against_judge(Judge(name), build(name), prompts(), plan) > 0.01


def norm_in_full(self, x):
    """RMSNorm in the precision that it is given; transformers goes down to float32."""
    return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)


@pytest.mark.parametrize("component", ["resid_pre", "resid_post", "attn_out", "mlp_out"])
def test_a_feature_that_float32_cannot_hold_agrees_in_float64(component, make_autoencoder, monkeypatch):
    monkeypatch.setattr(GraniteRMSNorm, "forward", norm_in_full)
    monkeypatch.setitem(CLOSE, "atol", 1e-7)
    sae = make_autoencoder(D_MODEL, site=Site(component, 1))
    judge, network = Judge("granite"), build("granite")
    judge.hf.config._attn_implementation = "sdpa"  # eager attention goes down to float32 as well
    for hf in (judge.hf, network.hf):
        hf.double()
    plan = [Intervention((Edit(component, 1, None, ScaleFeature(sae, feature=15), at),)) for at in ("all", "last")]
    assert against_judge(judge, network, prompts(), plan) > 0.01
