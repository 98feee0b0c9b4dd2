"""Jobs of a sweep, composed from what they have in common.

Hydra composes every job from its option files, a tenth of a second each, and a sweep composes each job three times: when it is
planned, when Hydra checks the grid, and when it runs. Jobs that choose the same options differ only in values, so the options
are composed once and the values set on a copy, by Hydra's own function. Option files that change while a sweep runs are not
read again.
"""

import copy
from functools import wraps
from typing import Any

from tiny_ablation.config.trust import check_config, told_by_hydra

_KEPT = 64  # combinations of options
_composed: dict[tuple[Any, ...], Any] = {}


def share_compositions() -> None:
    """Have Hydra's loader, in this process, compose the options that jobs share once; a second call does nothing."""
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from omegaconf import OmegaConf

    load = ConfigLoaderImpl.load_sweep_config
    if hasattr(load, "__wrapped__"):
        return

    @wraps(load)
    def load_shared(self: Any, master_config: Any, sweep_overrides: list[str]) -> Any:
        if master_config.hydra.searchpath:  # which groups there are depends on it
            return load(self, master_config, sweep_overrides)
        with told_by_hydra():
            parsed: list[Any] = OverridesParser.create().parse_overrides(sweep_overrides)
            values = [each for each in parsed if _is_value(each, self.repository)]
            options = [each.input_line for each in parsed if each not in values]
            cfg = copy.deepcopy(_options(load, self, master_config, options))
            _set(cfg, values, parsed)
        # Values that were resolved once, such as the time in the directory's name, stay what they are.
        OmegaConf.copy_cache(from_config=master_config, to_config=cfg)
        check_config(cfg, [*master_config.hydra.overrides.hydra, *sweep_overrides])
        return cfg

    ConfigLoaderImpl.load_sweep_config = load_shared


def forget_compositions() -> None:
    """Have option files read again."""
    _composed.clear()


def _options(load: Any, loader: Any, master_config: Any, options: list[str]) -> Any:
    """The config of these options, with nothing set; a copy is to be made before it is changed."""
    places = tuple(element.path for element in loader.config_search_path.get_path())
    key = (places, master_config.hydra.job.config_name, *master_config.hydra.overrides.hydra, None, *options)
    if key not in _composed:
        if len(_composed) >= _KEPT:
            del _composed[next(iter(_composed))]
        _composed[key] = load(loader, master_config, options)
    return _composed[key]


def _is_value(override: Any, repository: Any) -> bool:
    """Whether an override sets a value and chooses no option; Hydra's own settings decide what is composed, so they do not."""
    if override.key_or_group.startswith("hydra") or override.is_sweep_override():
        return False
    return isinstance(override.value(), dict) or not repository.group_exists(override.key_or_group)


def _set(cfg: Any, values: list[Any], parsed: list[Any]) -> None:
    """What Hydra does with overrides once the options are composed."""
    from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname

    ConfigLoaderImpl._apply_overrides_to_config(values, cfg)
    task = [each for each in parsed if not each.is_hydra_override()]
    cfg.hydra.overrides.task = [each.input_line for each in task]
    how = cfg.hydra.job.config.override_dirname
    cfg.hydra.job.override_dirname = get_overrides_dirname(
        overrides=task, kv_sep=how.kv_sep, item_sep=how.item_sep, exclude_keys=how.exclude_keys
    )
