"""What is put at a site."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tiny_ablation.engine.edits import Edit, Ids, Replacement

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Scale(Replacement):
    """The run's own value times a factor; a factor of 0 is zero ablation."""

    factor: float
    sources: tuple[Ids, ...] | None = None

    @property
    def name(self) -> str:  # type: ignore[override]
        """`zero` for a factor of 0, else `scale`."""
        return "zero" if self.factor == 0 else "scale"

    def value(self, current: "Tensor", source: "Tensor | None", edit: Edit) -> "Tensor":  # noqa: ARG002
        """See `Replacement.value`."""
        return current.new_zeros(current.shape) if self.factor == 0 else current * self.factor
