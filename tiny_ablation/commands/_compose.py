"""From overrides to the config that a run with them would have."""

from collections.abc import Sequence

from tiny_ablation.config import schema
from tiny_ablation.config.settings import Settings, to_settings
from tiny_ablation.interventions.registry import register_schemas
from tiny_ablation.paths import conf_dir


def compose(overrides: Sequence[str]) -> Settings:
    """The settings of a run with these overrides.

    Args:
        overrides: as on the command line of a run.

    Raises:
        ConfigError: a value is wrong; Hydra's own errors for unknown options and keys.
    """
    import hydra

    schema.register()
    register_schemas()
    with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return to_settings(hydra.compose("config", list(overrides)))
