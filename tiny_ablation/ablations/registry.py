"""Every ablation by name. A module or folder of `ablations/` is a slice and lists its own under `ABLATIONS`; so do plug-ins."""

import pkgutil
from collections.abc import Mapping
from functools import cache
from importlib import import_module

from tiny_ablation import ablations
from tiny_ablation.config.settings import Settings
from tiny_ablation.data.corpus import load_corpus
from tiny_ablation.errors import ConfigError, did_you_mean
from tiny_ablation.plugins import added
from tiny_ablation.run.plan import Ablation
from tiny_ablation.run.spec import LoadCorpus, RunSpec, make_spec

_NO_SLICES = ("registry", "shared")


@cache
def all_ablations() -> Mapping[str, Ablation]:
    """Every ablation by its name, sorted."""
    names = [module.name for module in pkgutil.iter_modules(ablations.__path__)]
    modules = [import_module(f"{ablations.__name__}.{name}") for name in names if name not in _NO_SLICES]
    found = {ablation.name: ablation for module in modules for ablation in module.ABLATIONS}
    return dict(sorted((found | added("ABLATIONS", found)).items()))


def find_ablation(name: str) -> Ablation:
    """The ablation of that name.

    Raises:
        ConfigError: there is none; the message lists them.
    """
    if name not in all_ablations():
        raise ConfigError(
            f"ablation.kind={name}: there is no such kind{did_you_mean(name, all_ablations())}; there are "
            f"{', '.join(all_ablations())}"
        )
    return all_ablations()[name]


def run_spec(settings: Settings, load: LoadCorpus = load_corpus) -> RunSpec:
    """The run that a config describes, checked without its model; arguments and errors as `make_spec`."""
    return make_spec(settings, find_ablation(settings.root.ablation.kind), load)


def register_schemas() -> None:
    """Put each kind's keys into Hydra's store, as the group option `<kind>_schema` that its YAML file builds on.

    A kind of a plug-in, which brings no YAML file, becomes an option by its own name.
    """
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    for name, ablation in all_ablations().items():
        store.store(group="ablation", name=f"{name}_schema", node=ablation.config(kind=name))
    for name, ablation in added("ABLATIONS", {}).items():
        store.store(group="ablation", name=name, node=ablation.config(kind=name))
