"""Directions as the engine takes them, and what is done along them."""

from abc import abstractmethod
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING

from tiny_ablation.config.seeds import generator
from tiny_ablation.engine.edits import Edit, Lookup, Replacement

if TYPE_CHECKING:
    from torch import Tensor

    from tiny_ablation.engine.means import Means

SITE = "resid_post"


class Operation(Enum):
    """What is done with a direction."""

    project_out = "project_out"
    add = "add"
    scale = "scale"


@dataclass(frozen=True, eq=False)
class Along(Replacement):
    """The run's own value with what it has along a direction changed."""

    operation: Operation  # what is done
    factor: float  # how often the direction is added, or by what the part along it is multiplied
    lookup: Lookup | None = None  # the direction, of any length

    @property
    def name(self) -> str:  # type: ignore[override]
        """The operation, with its factor where it has one."""
        what = self.operation.value
        return what if self.operation is Operation.project_out else f"{what} {self.factor:g}"

    def value(self, current: "Tensor", source: "Tensor | None", edit: Edit) -> "Tensor":  # noqa: ARG002
        """See `Replacement.value`; without a direction (of length 0) nothing changes."""
        import torch

        assert source is not None
        wide = torch.promote_types(current.dtype, torch.float32)
        x, direction = current.to(wide), source.to(current.device, wide)
        if self.operation is Operation.add:
            return (x + self.factor * direction).to(current)
        unit = direction / direction.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(wide).tiny)
        kept = 0.0 if self.operation is Operation.project_out else self.factor
        return (x + (kept - 1) * (x * unit).sum(-1, keepdim=True) * unit).to(current)


class OneDirection(Lookup):
    """A direction that every token takes, wherever it is written."""

    @abstractmethod
    def vector(self) -> "Tensor":
        """(d_model,) the direction, with its length."""

    def row(self, example: int, position: int) -> int:  # noqa: ARG002
        """See `Lookup.row`."""
        return 0

    def values(self, component: str, layer: int) -> "Tensor":  # noqa: ARG002
        """See `Lookup.values`."""
        return self.vector()[None, None]


@dataclass(frozen=True, eq=False)
class Difference(OneDirection):
    """The mean of one layer over clean prompts minus that over corrupt ones: rows 0 and 1 of `means`."""

    means: "Means"
    layer: int

    def vector(self) -> "Tensor":
        """See `OneDirection`."""
        clean, corrupt = self.means.values[SITE, self.layer][:2, 0]
        return clean - corrupt


@dataclass(frozen=True, eq=False)
class Given(OneDirection):
    """A direction from a file."""

    tensor: "Tensor"

    def vector(self) -> "Tensor":
        """See `OneDirection`."""
        return self.tensor


@dataclass(frozen=True, eq=False)
class Random(OneDirection):
    """A direction drawn evenly from all those of the length of another."""

    of: OneDirection  # the other
    seed: int  # the run's seed
    about: tuple[int, int]  # the layer, and which draw it is

    def vector(self) -> "Tensor":
        """See `OneDirection`."""
        return self._drawn

    @cached_property
    def _drawn(self) -> "Tensor":
        import torch

        other = self.of.vector()
        drawn = torch.from_numpy(generator(self.seed, "direction", *self.about).standard_normal(len(other)))
        return (drawn * (other.double().norm().cpu() / drawn.norm())).to(other)
