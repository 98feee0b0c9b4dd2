"""What an autoencoder puts into a run: one feature scaled or added, or the whole reconstruction.

With the error kept, the activation is changed only by what the feature writes: `x + (s - 1) a_f(x) d_f`. So what the
autoencoder does not explain stays in the run, and a factor of 1 changes nothing. Without it, the run continues from the
reconstruction, and every effect comes on top of the effect of the reconstruction.

The error is that of the activation before the change; computed from the changed activation it would undo the change.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tiny_ablation.engine.edits import Edit, Ids, Replacement
from tiny_ablation.sae.autoencoder import Autoencoder

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class _InPlace(Replacement):
    """A replacement that depends on the activation alone, and on the autoencoder at the place of the edit."""

    autoencoder: Autoencoder
    keep_error: bool = True  # whether what the autoencoder does not explain stays
    sources: tuple[Ids, ...] | None = None

    def value(self, current: "Tensor", source: "Tensor | None", edit: Edit) -> "Tensor":  # noqa: ARG002
        """See `Replacement.value`."""
        x = current.flatten(-2)  # (n, units, width) to (n, units * width)
        return self._changed(x).view_as(current)

    @abstractmethod
    def _changed(self, x: "Tensor") -> "Tensor":
        """(n, units * width) activations, changed."""


@dataclass(frozen=True, eq=False)
class Splice(_InPlace):
    """The reconstruction, with the error added again or without it."""

    @property
    def name(self) -> str:  # type: ignore[override]
        """`splice`, or what it is with the error."""
        return "splice with error" if self.keep_error else "splice"

    def _changed(self, x: "Tensor") -> "Tensor":
        output = self.autoencoder.encode(x).output
        return output + (x - output) if self.keep_error else output


@dataclass(frozen=True, eq=False)
class ScaleFeature(_InPlace):
    """One feature times a factor; 0 switches it off."""

    feature: int = 0
    factor: float = 0.0

    @property
    def name(self) -> str:  # type: ignore[override]
        """`zero` for a factor of 0, else `scale`."""
        return "zero" if self.factor == 0 else "scale"

    def _changed(self, x: "Tensor") -> "Tensor":
        base = x if self.keep_error else self.autoencoder.encode(x).output
        return base + (self.factor - 1) * self.autoencoder.written(x, self.feature)


@dataclass(frozen=True, eq=False)
class AddFeature(_InPlace):
    """A feature's direction, added at every token whether the feature is active or not (steering)."""

    feature: int = 0
    amount: float = 1.0
    name = "add"

    def _changed(self, x: "Tensor") -> "Tensor":
        base = x if self.keep_error else self.autoencoder.encode(x).output
        return base + self.amount * self.autoencoder.directions[self.feature].to(x)
