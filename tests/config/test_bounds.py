"""Numbers that no machine could serve are refused before anything is measured."""

import pytest

from tiny_ablation.commands._compose import compose
from tiny_ablation.errors import ConfigError


@pytest.mark.parametrize(
    "override",
    [
        "device.threads=100000",
        "stats.n_boot=1000000000",
        "stats.n_perm=1000000000",
        "sweep.n_resamples=1000000000",
        "sweep.n_control_sets=1000000000",
    ],
)
def test_what_would_never_end(override):
    with pytest.raises(ConfigError, match=rf"{override}: it must be at least \d+ and at most \d"):
        compose(["model=toy", override])
