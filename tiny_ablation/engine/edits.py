"""What the engine can be asked to do: write a replacement into sites of a run."""

from abc import ABC, abstractmethod
from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tiny_ablation.errors import GuardError
from tiny_ablation.models.hookpoints import HEAD_COMPONENTS
from tiny_ablation.models.labels import head_label

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor

    from tiny_ablation.models.network import Network

    Values = Float[Tensor, "n *units width"]  # at n tokens; without the axis of units where an edit names one
    Meant = Bool[Tensor, "n *units width"]  # which of the scores are meant

Ids = tuple[int, ...]

# "all", "after_first", "last", the name of a mark such as "subject", or one position: from the first token (0, 1, ...), or
# back from the last one of the prompt (-1, -2, ...)
PositionSpec = str | int


class Lookup(ABC):
    """Values that are computed beforehand, such as means, of which each token takes a row."""

    @abstractmethod
    def row(self, example: int, position: int) -> int:
        """The row that this token takes."""

    @abstractmethod
    def values(self, component: str, layer: int) -> "Float[Tensor, 'n_rows units width']":
        """The rows at one place."""


class Replacement(ABC):
    """What is put at a site.

    Attributes:
        name: as in the `replacement` column, such as `zero`.
        sources: for each example the token ids of the run whose values are put in (patching, resampling), or None where the
            value does not depend on another run.
        lookup: ready values, of which each token takes one, or None. A replacement has `sources` or this, not both.
        within: what is done to the source run before its values are taken (path patching), or None. The source run is then the
            prompt itself.
        network: the model that makes the source run; None is the one that the values are put into.
    """

    name: str
    sources: tuple[Ids, ...] | None = None
    lookup: Lookup | None = None
    within: "Intervention | None" = None
    network: "Network | None" = None

    @abstractmethod
    def value(self, current: "Values", source: "Values | Meant | None", edit: "Edit") -> "Values":
        """The values to write.

        Args:
            current: what the run has there. Not to be changed.
            source: what the source run has at the aligned positions, or the rows of `lookup` that these tokens take; of an edit
                with `keys`, which of the scores are meant; None without any of these.
            edit: the edit that is being made.
        """

    def tag(self, example: int, position: int) -> Hashable:
        """What the value at this token depends on besides the prompt up to here.

        Two prompts with a common prefix share its computation as long as their tags agree along it.
        """
        if self.lookup is not None:
            return self.lookup.row(example, position)
        if self.sources is None:
            return None
        source = self.sources[example]
        return source[position] if position < len(source) else None

    def source_position(self, position: int, length: int, source_length: int) -> int | None:
        """The position in the source run that belongs to `position` of a prompt of `length` tokens.

        The same position where both prompts have the same length; otherwise only their last tokens correspond.
        """
        if length == source_length:
            return position if position < source_length else None
        return source_length - 1 if position == length - 1 else None


@dataclass(frozen=True)
class Edit:
    """One replacement at one site.

    Attributes:
        component: a name of `tiny_ablation.models.hookpoints.COMPONENTS`.
        layer: the block, from 0.
        unit: the head, k/v head or neuron; None is the whole component.
        replacement: what is put there.
        positions: which tokens.
        keys: of `scores`, the attention scores of the tokens at `positions`, those for which tokens before them (a token
            always sees itself); None elsewhere.
    """

    component: str
    layer: int
    unit: int | None
    replacement: Replacement
    positions: PositionSpec = "all"
    keys: PositionSpec | None = None

    def __post_init__(self) -> None:
        if (self.component == "scores") != (self.keys is not None):
            raise GuardError(f"an edit of {self.component}: `keys` belongs to edits of scores, and to all of them")

    @property
    def label(self) -> str:
        """For messages, such as `L3H2.z` or `blocks.3.mlp_out`."""
        if self.unit is not None and self.component in HEAD_COMPONENTS:
            return f"{head_label(self.layer, self.unit)}.{self.component}"
        unit = "" if self.unit is None else f"[{self.unit}]"
        unit = unit if self.keys is None else f"[{self.keys} to {self.positions}]"
        return f"blocks.{self.layer}.{self.component}{unit}"


@dataclass(frozen=True, eq=False)
class Cut(Replacement):
    """Minus infinity: attention scores before the softmax whose edges are cut, so that the other edges share what they had."""

    name = "cut"

    def value(self, current: "Values", source: "Values | Meant | None", edit: Edit) -> "Values":  # noqa: ARG002
        """See `Replacement.value`."""
        assert source is not None
        return current.masked_fill(source.to(current.device), float("-inf"))


@dataclass(frozen=True)
class Intervention:
    """Edits that are made together in one run.

    Attributes:
        edits: at least one; made in the order of the network, and of this tuple at one place.
    """

    edits: tuple[Edit, ...]

    @property
    def start(self) -> int:
        """The first block whose computation changes."""
        return min(edit.layer for edit in self.edits)

    @property
    def label(self) -> str:
        """For messages: all sites."""
        return " + ".join(edit.label for edit in self.edits)
