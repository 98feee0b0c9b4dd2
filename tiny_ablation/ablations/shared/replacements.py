"""What is put at a site."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tiny_ablation.engine.edits import Edit, Ids, Intervention, Replacement
from tiny_ablation.engine.prompts import Prompt

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


@dataclass(frozen=True, eq=False)
class Patch(Replacement):
    """What another run has at the same place: the paired prompt's values, or the run's own as a self_patch."""

    # for each example the tokens of the run whose values are put in
    sources: tuple[Ids, ...] = ()  # pyright: ignore[reportIncompatibleVariableOverride]
    lengths: tuple[int, ...] = ()  # for each example the length of the prompt that is patched
    name = "patch"

    def value(self, current: "Tensor", source: "Tensor | None", edit: Edit) -> "Tensor":  # noqa: ARG002
        """See `Replacement.value`."""
        assert source is not None
        return source

    def tag(self, example: int, position: int) -> Hashable:
        """See `Replacement.tag`; prompts of unequal lengths meet at their last tokens, where all of the source counts."""
        source = self.sources[example]
        return super().tag(example, position) if len(source) == self.lengths[example] else source


def patch_from(sources: Sequence[Prompt], patched: Sequence[Prompt]) -> Patch:
    """Puts the values of `sources` into runs of `patched`, example by example."""
    return Patch(tuple(p.ids for p in sources), tuple(len(p.ids) for p in patched))


@dataclass(frozen=True, eq=False)
class FromEdited(Patch):
    """What an edited run of the prompt itself has at the same place: the second step of path patching."""

    within: Intervention | None = None  # what is done to that run
