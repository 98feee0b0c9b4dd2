"""Places where Hydra is made to fit: what it lists as options, what it needs of a sweep's config before its cells, resolvers.

Hydra lists the typed schemas that option files build on beside the options themselves. And it composes a sweep once without
what is swept, where `-m ablation=heads_mean,mlp_mean ablation.mean=template` fails, since the default ablation has no such key.
"""

import re
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

SCHEMA_SUFFIX = "_schema"


def fit_hydra() -> None:
    """Adapt Hydra in this process; a second call does nothing."""
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra._internal.config_repository import ConfigRepository

    listed = ConfigRepository.get_group_options
    if hasattr(listed, "__wrapped__"):
        return

    @wraps(listed)
    def options(self: Any, group_name: str, *args: Any, **kwargs: Any) -> list[str]:
        found = listed(self, group_name, *args, **kwargs)
        return [name for name in found if not name.endswith(SCHEMA_SUFFIX)]

    load = ConfigLoaderImpl.load_configuration

    @wraps(load)
    def load_any(self: Any, config_name: Any, overrides: list[str], run_mode: Any, *args: Any, **kwargs: Any) -> Any:
        def compose(given: list[str]) -> Any:
            return load(self, config_name, given, run_mode, *args, **kwargs)

        return _load_sweep(compose, overrides) if run_mode.name == "MULTIRUN" else compose(overrides)

    ConfigRepository.get_group_options = options
    ConfigLoaderImpl.load_configuration = load_any


def cell_number(job: int, cfg: Any) -> int:
    """The cell that a job of a sweep works on: `run.shards` jobs in a row work on one, where its config sets `run.shard`."""
    return job if cfg.run.shard is None else job // cfg.run.shards


def register_resolvers() -> None:
    """Let configs say `${cell:}`, and `${log_name:}`, since several jobs may work on one run (`run.shards`)."""
    from omegaconf import OmegaConf

    def cell(*, _root_: Any) -> int:
        return cell_number(_root_.hydra.job.num, _root_)

    def log_name(*, _root_: Any) -> str:
        return "run.log" if _root_.run.shard is None else f"run-{_root_.run.shard}.log"

    OmegaConf.register_new_resolver("cell", cell, replace=True)
    OmegaConf.register_new_resolver("log_name", log_name, replace=True)


def _load_sweep(compose: Callable[[list[str]], Any], overrides: Sequence[str]) -> Any:
    """The config of a sweep as a whole, without the keys that only its cells can have.

    They are still overrides of the sweep, so a cell that lacks one is refused when it is composed.
    """
    from hydra.errors import ConfigCompositionException

    given = list(overrides)
    while True:
        try:
            cfg = compose(given)
            break
        except ConfigCompositionException as error:
            key = re.search(r"Could not override '([^']+)'", str(error))
            rest = [each for each in given if not key or each.partition("=")[0] != key[1]]
            if len(rest) == len(given):
                raise
            given = rest
    if len(given) < len(overrides):
        of_hydra = list(cfg.hydra.overrides.hydra)
        cfg.hydra.overrides.task = [each for each in overrides if each not in of_hydra]
    return cfg
