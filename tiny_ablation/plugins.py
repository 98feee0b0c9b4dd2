"""Ablations and metrics of the user's own, outside the package.

A plug-in is a module that lists `ABLATIONS` or `METRICS`, as the modules of `tiny_ablation/ablations` and `metrics` do: a
Python file that the environment variable `TINY_ABLATE_PLUGINS` names (several are separated as in `PATH`), or a module of an
installed distribution, by the entry point group `tiny_ablation.plugins`. No config file can name one: it is code.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module, util
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from tiny_ablation.errors import UserError, said

VARIABLE = "TINY_ABLATE_PLUGINS"
GROUP = "tiny_ablation.plugins"


@dataclass(frozen=True)
class Plugin:
    """A plug-in."""

    name: str  # the file's stem, or the name of the entry point
    where: str  # for messages
    module: ModuleType  # what was imported
    digest: str  # SHA-256 of its source

    def listed(self, what: str) -> list[Any]:
        """Its `ABLATIONS` or `METRICS`."""
        return list(getattr(self.module, what, ()))


@cache
def plugins() -> list[Plugin]:
    """Every plug-in, those of files first. Raises UserError: one cannot be imported, or lists nothing."""
    files = [Path(part).expanduser() for part in os.environ.get(VARIABLE, "").split(os.pathsep) if part]
    found = [_load(path.stem, f"{VARIABLE}: {path}", lambda path=path: _module_of(path)) for path in files]
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        found.append(_load(entry.name, f"the plug-in {entry.name} ({entry.value})", lambda e=entry: import_module(e.value)))
    return found


def _load(name: str, where: str, load: Any) -> Plugin:
    try:
        module = load()
    except Exception as error:
        raise UserError(f"{where} cannot be imported: {said(error)}") from error
    plugin = Plugin(name, where, module, hashlib.sha256(Path(module.__file__).read_bytes()).hexdigest())
    if not plugin.listed("ABLATIONS") and not plugin.listed("METRICS"):
        raise UserError(f"{where} lists neither ABLATIONS nor METRICS, so it adds nothing")
    return plugin


def _module_of(path: Path) -> ModuleType:
    if not path.is_file():
        raise FileNotFoundError("there is no such file")
    spec = util.spec_from_file_location(f"tiny_ablation_plugin_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ImportError("it is not a Python file")
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def added(what: str, own: Mapping[str, Any]) -> dict[str, Any]:
    """What the plug-ins list, by name. Raises UserError: two have one name."""
    found: dict[str, Any] = {}
    for plugin in plugins():
        for each in plugin.listed(what):
            if each.name in own or each.name in found:
                raise UserError(f"{plugin.where}: there is already one called {each.name} in {what}; give it another name")
            found[each.name] = each
    return found


def versions_of(names: Mapping[str, set[str]]) -> dict[str, str]:
    """The digests of the plug-ins that list any of these, for a run's identity."""
    return {
        f"plug-in {plugin.name}": plugin.digest
        for plugin in plugins()
        if any(each.name in used for what, used in names.items() for each in plugin.listed(what))
    }
