"""Every metric by name. A new metric is one file beside this one, holding a `METRIC`; it is found by its file name.

Metrics of plug-ins (`tiny_ablation.plugins`) stand among them.

A name that begins with `seq_` is of the whole answer (`metrics.span=full`), so that names can be checked without torch.
"""

from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tiny_ablation.errors import ConfigError, did_you_mean
from tiny_ablation.plugins import added

if TYPE_CHECKING:
    from tiny_ablation.metrics.readout import Metric

_NOT_METRICS = {"__init__", "readout", "registry"}


def metric_names() -> list[str]:
    """The names of all metrics, sorted, without importing any of the package's."""
    own = _own_names()
    return sorted([*own, *added("METRICS", dict.fromkeys(own))])


@cache
def _own_names() -> list[str]:
    return [path.stem for path in Path(__file__).parent.glob("*.py") if path.stem not in _NOT_METRICS]


def span_of(name: str) -> Literal["first", "full"]:
    """The `metrics.span` that the metric of that name is defined for.

    Raises:
        ConfigError: there is none; the message lists them.
    """
    if name not in metric_names():
        known = metric_names()
        raise ConfigError(
            f"metrics.names: unknown metric {name!r}; there are {', '.join(known)}{did_you_mean(name, known)}"
        )
    return "full" if name.startswith("seq_") else "first"


@cache
def metric(name: str) -> "Metric":
    """The metric of that name.

    Raises:
        ConfigError: there is none; the message lists them.
    """
    span_of(name)
    if name not in _own_names():
        return added("METRICS", {})[name]
    return import_module(f"tiny_ablation.metrics.{name}").METRIC
