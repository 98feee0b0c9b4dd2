"""The default recipe on the default model: about a quarter of an hour on two cores."""

from pathlib import Path

import pytest

from tiny_ablation.config.schema import SaeConfig
from tiny_ablation.sae.loading import obtain
from tiny_ablation.sae.site import Site
from tiny_ablation.store.files import read_json

pytestmark = pytest.mark.training


def test_the_default_recipe_on_the_default_model(smollm2_network):
    """In the user's cache, so that it is trained once; delete <cache>/sae to train it again."""
    found = obtain(smollm2_network, SaeConfig(), 0)
    assert found.site == Site("resid_post", 15)
    numbers = found.trained["quality"]
    assert numbers["explained_variance"] >= 0.85
    assert numbers["explained_variance_without_sinks"] >= 0.85
    assert numbers["ce_recovered"] >= 0.97
    assert numbers["l0"] <= 48
    assert numbers["dead_features"] <= 0.40
    assert read_json(Path(found.source) / "training_profile.json")["peak_rss_bytes"] < 3e9
