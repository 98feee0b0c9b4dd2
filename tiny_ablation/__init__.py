"""Which parts of a language model carry a behaviour, how sure are we, and what stays the same.

    from tiny_ablation import ablate, measure, load_run, load_sweep

`ablate` carries a run out, `measure` runs interventions of your own, `load_run` and `load_sweep` read what runs and sweeps
have left behind. Nothing heavy is imported before it is asked for.
"""

from typing import TYPE_CHECKING, Any

from tiny_ablation.version import __version__

if TYPE_CHECKING:
    from tiny_ablation.ablations.shared.replacements import Scale as Scale
    from tiny_ablation.api import ablate as ablate
    from tiny_ablation.api import measure as measure
    from tiny_ablation.engine.edits import Edit as Edit
    from tiny_ablation.engine.edits import Intervention as Intervention
    from tiny_ablation.engine.edits import Replacement as Replacement
    from tiny_ablation.store.reader import Run as Run
    from tiny_ablation.store.reader import load_run as load_run
    from tiny_ablation.store.sweep_reader import Sweep as Sweep
    from tiny_ablation.store.sweep_reader import load_sweep as load_sweep


__all__ = [
    "Edit",
    "Intervention",
    "Replacement",
    "Run",
    "Scale",
    "Sweep",
    "__version__",
    "ablate",
    "load_run",
    "load_sweep",
    "measure",
]

_HOMES = {
    "Run": "store.reader",
    "load_run": "store.reader",
    "Sweep": "store.sweep_reader",
    "load_sweep": "store.sweep_reader",
    "ablate": "api",
    "measure": "api",
    "Edit": "engine.edits",
    "Intervention": "engine.edits",
    "Replacement": "engine.edits",
    "Scale": "ablations.shared.replacements",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"tiny_ablation.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
