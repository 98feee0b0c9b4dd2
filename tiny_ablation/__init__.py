"""Which parts of a language model carry a behaviour, how sure are we, and what stays the same.

    from tiny_ablation import load_run, load_sweep

reads what runs and sweeps have left behind; nothing heavy is imported before it is asked for.
"""

from typing import TYPE_CHECKING, Any

from tiny_ablation.version import __version__

if TYPE_CHECKING:
    from tiny_ablation.store.reader import Run as Run
    from tiny_ablation.store.reader import load_run as load_run
    from tiny_ablation.store.sweep_reader import Sweep as Sweep
    from tiny_ablation.store.sweep_reader import load_sweep as load_sweep


__all__ = ["Run", "Sweep", "__version__", "load_run", "load_sweep"]

_HOMES = {"Run": "reader", "load_run": "reader", "Sweep": "sweep_reader", "load_sweep": "sweep_reader"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"tiny_ablation.store.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
