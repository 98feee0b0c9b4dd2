"""`plan` trains nothing."""

import pytest

from tiny_ablation.commands import plan
from tiny_ablation.errors import ConfigError


@pytest.mark.parametrize("ablation", ["sae_train", "sae_toggle"])
def test_an_autoencoder_that_is_not_there_is_not_trained_to_plan(ablation):
    with pytest.raises(ConfigError, match=f"ablation={ablation} depends on an autoencoder"):
        plan.main(["model=toy", f"ablation={ablation}"])
