"""Every ablation kind by name; found by module name, so adding one means adding its file."""

import pkgutil
from functools import cache
from importlib import import_module

from tiny_ablation.ablations import kinds
from tiny_ablation.config.settings import Settings
from tiny_ablation.errors import ConfigError
from tiny_ablation.run.plan import Ablation
from tiny_ablation.run.spec import RunSpec, make_spec


def ablation_names() -> list[str]:
    """The names of all kinds, sorted."""
    return sorted(
        module.name for module in pkgutil.iter_modules(kinds.__path__) if not module.name.startswith("_")
    )


@cache
def find_ablation(name: str) -> Ablation:
    """The kind of that name.

    Raises:
        ConfigError: there is none; the message lists them.
    """
    if name not in ablation_names():
        raise ConfigError(
            f"ablation.kind={name}: there is no such kind; there are {', '.join(ablation_names())}"
        )
    return import_module(f"{kinds.__name__}.{name}").ABLATION


def run_spec(settings: Settings) -> RunSpec:
    """The run that a config describes, checked without its model; errors as `make_spec`."""
    return make_spec(settings, find_ablation(settings.root.ablation.kind))


def register_schemas() -> None:
    """Put each kind's keys into Hydra's store, as the group option `<kind>_schema` that its YAML file builds on."""
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    for name in ablation_names():
        store.store(group="ablation", name=f"{name}_schema", node=find_ablation(name).config(kind=name))
