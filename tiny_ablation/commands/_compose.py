"""From overrides to the config that a run with them would have."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tiny_ablation.ablations.registry import register_schemas
from tiny_ablation.config import schema
from tiny_ablation.config.settings import Settings, to_settings
from tiny_ablation.paths import conf_dir

if TYPE_CHECKING:
    from hydra._internal.hydra import Hydra
    from omegaconf import DictConfig

    from tiny_ablation.sweep.plan import Planned


def compose(overrides: Sequence[str]) -> Settings:
    """The settings of a run with these overrides.

    Raises:
        ConfigError: a value is wrong; Hydra's own errors for unknown options and keys.
    """
    return to_settings(composed(overrides))


def composed(overrides: Sequence[str]) -> "DictConfig":
    """The config of a run with these overrides, its values not checked yet.

    Raises:
        HydraException: an option or a key is unknown.
    """
    import hydra

    with _hydra():
        return hydra.compose("config", list(overrides))


@contextmanager
def _hydra() -> "Iterator[Hydra]":
    """Within: Hydra, with the schema and the options of this package."""
    import hydra
    from hydra.core.global_hydra import GlobalHydra

    schema.register()
    register_schemas()
    with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
        app = GlobalHydra.instance().hydra
        assert app is not None
        yield app


def is_sweep(overrides: Sequence[str]) -> bool:
    """Whether these overrides alone make a sweep, as an experiment with `hydra.mode: MULTIRUN` does."""
    from hydra.types import RunMode

    with _hydra() as app:
        return app.get_mode("config", list(overrides)) is RunMode.MULTIRUN


def compose_sweep(overrides: Sequence[str]) -> "Planned":
    """The sweep that these overrides make, with `-m` or by themselves, every cell checked.

    Raises:
        UserError: a cell cannot run; Hydra's own errors for unknown options and keys.
    """
    from hydra.types import RunMode

    from tiny_ablation.sweep.plan import plan_sweep

    with _hydra() as app:
        return plan_sweep(app.compose_config("config", list(overrides), RunMode.MULTIRUN, from_shell=True))
