"""Every metric by name. A new metric is one file beside this one, holding a `METRIC`; it is found by its file name.

Metrics of plug-ins (`tiny_ablation.plugins`) stand among them.

A name that begins with `seq_` is of the whole answer (`metrics.span=full`), one that begins with `text_` of what the model
writes (`metrics.span=text`), so that names can be checked without torch.
"""

from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tiny_ablation.errors import ConfigError, did_you_mean
from tiny_ablation.plugins import added

if TYPE_CHECKING:
    from tiny_ablation.metrics.readout import Metric

_NOT_METRICS = {"__init__", "readout", "registry", "written"}


def metric_names() -> list[str]:
    """The names of all metrics, sorted, without importing any of the package's."""
    own = _own_names()
    return sorted([*own, *added("METRICS", dict.fromkeys(own))])


@cache
def _own_names() -> list[str]:
    return [path.stem for path in Path(__file__).parent.glob("*.py") if path.stem not in _NOT_METRICS]


def span_of(name: str) -> Literal["first", "full", "text"]:
    """The `metrics.span` that the metric of that name is defined for.

    Raises:
        ConfigError: there is none; the message lists them.
    """
    if name not in metric_names():
        known = metric_names()
        raise ConfigError(f"metrics.names: unknown metric {name!r}{did_you_mean(name, known)}; there are {', '.join(known)}")
    return "full" if name.startswith("seq_") else "text" if name.startswith("text_") else "first"


@cache
def metric(name: str) -> "Metric":
    """The metric of that name.

    Raises:
        ConfigError: there is none; the message lists them.
    """
    span_of(name)
    if name not in _own_names():
        found = added("METRICS", {})[name]
        if found.span != span_of(name):
            raise ConfigError(
                f"metrics.names: the plug-in's metric {name} is of span {found.span!r}, and its name says {span_of(name)!r}: "
                "metrics of whole answers are called seq_..., metrics of text text_..."
            )
        return found
    return import_module(f"tiny_ablation.metrics.{name}").METRIC
