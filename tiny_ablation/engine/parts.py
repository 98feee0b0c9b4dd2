"""Parts of a plan whose values from other runs fit into memory together.

Patching from one run takes a value at each place; resampling with many draws, or path patching, which has a source run for each
sender, would hold more with each intervention. So a plan is worked through in parts, and each part's sources are run and let go
of. One part is what most plans have.
"""

from collections.abc import Iterable, Sequence

from tiny_ablation.engine.edits import Ids, Intervention, Replacement
from tiny_ablation.engine.forward import Place
from tiny_ablation.engine.layout import Batch
from tiny_ablation.models.hookpoints import ModelShape

# Bytes of source values that are held at once, as far as one intervention does not need more by itself.
MOST_BYTES = 256 * 2**20


def in_parts(
    plan: Sequence[Intervention], batch: Batch, shape: ModelShape, width_of_number: int
) -> list[dict[int, Intervention]]:
    """The plan in parts, by index, whose values from other runs take at most `MOST_BYTES` together.

    Interventions that take their values from the same runs stand together, so that few runs are made twice. `width_of_number`
    is in bytes.
    """
    order: dict[frozenset[int], list[int]] = {}
    for index, intervention in enumerate(plan):
        sources = frozenset(id(edit.replacement) for edit in intervention.edits if edit.replacement.sources is not None)
        order.setdefault(sources, []).append(index)
    parts: list[dict[int, Intervention]] = [{}]
    held = _Held(batch, shape)
    for index in (index for of_source in order.values() for index in of_source):
        held.add(plan[index])
        if parts[-1] and held.numbers * width_of_number > MOST_BYTES:
            parts.append({})
            held = _Held(batch, shape)
            held.add(plan[index])
        parts[-1][index] = plan[index]
    return parts


class _Held:
    """What the sources of some interventions hold: numbers, counted without shared prefixes."""

    def __init__(self, batch: Batch, shape: ModelShape) -> None:
        self.batch, self.shape = batch, shape
        self._sequences: set[Ids] = set()
        self._places: set[Place] = set()
        self._edited: set[tuple[int, Place]] = set()
        self._seen: set[int] = set()
        self._tokens = self._plain_width = self._edited_width = 0

    @property
    def numbers(self) -> int:
        return self._tokens * self._plain_width + self.batch.n_nodes * self._edited_width

    def add(self, intervention: Intervention) -> None:
        for edit in intervention.edits:
            replacement, place = edit.replacement, (edit.component, edit.layer)
            if replacement.sources is None:
                continue
            if replacement.within is not None:
                if (id(replacement), place) not in self._edited:
                    self._edited.add((id(replacement), place))
                    self._edited_width += self.shape.width(edit.component)
                    self.add(replacement.within)
                continue
            if id(replacement) not in self._seen:
                self._seen.add(id(replacement))
                new = source_prompts([replacement], self.batch).keys() - self._sequences
                self._sequences |= new
                self._tokens += sum(map(len, new))
            if place not in self._places:
                self._places.add(place)
                self._plain_width += self.shape.width(edit.component)


def source_prompts(replacements: Iterable[Replacement], batch: Batch) -> dict[Ids, None]:
    """The distinct prompts that these take the values of a batch's examples from, in the order they are met."""
    found: dict[Ids, None] = {}
    for replacement in replacements:
        assert replacement.sources is not None
        found |= dict.fromkeys(replacement.sources[e] for e in batch.examples)
    return found
