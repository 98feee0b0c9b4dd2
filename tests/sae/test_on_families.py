"""What autoencoders put into a run, on the architectures that differ most, against hooks put on by hand."""

import pytest

from tests.engine.test_families import Judge, against_judge, build, prompts
from tests.engine.test_kinds_on_families import NAMES
from tests.families import D_MODEL
from tiny_ablation.engine.edits import Edit, Intervention
from tiny_ablation.sae.site import Site
from tiny_ablation.sae.splice import AddFeature, ScaleFeature, Splice

# Not 15: without it the bare Granite itself moves by 5e-4 where weights change by half a unit in their last place.
FEATURES = (0, 5, 10)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("component", ["resid_pre", "resid_post", "attn_out", "mlp_out"])
def test_features_are_what_hooks_by_hand_give(name, component, make_autoencoder):
    sae = make_autoencoder(D_MODEL, site=Site(component, 1))
    ways = [
        Splice(sae), Splice(sae, keep_error=False), *(ScaleFeature(sae, feature=f) for f in FEATURES),
        ScaleFeature(sae, keep_error=False, feature=3, factor=2.0), AddFeature(sae, feature=2, amount=3.0),
    ]  # fmt: skip
    plan = [Intervention((Edit(component, 1, None, way, at),)) for way in ways for at in ("all", "last")]
    assert against_judge(Judge(name), build(name), prompts(), plan) > 0.01
