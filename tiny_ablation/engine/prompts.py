"""What is run and what is read off it: prompts, teacher-forced continuations and the positions of interest."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tiny_ablation.engine.edits import Ids, PositionSpec
from tiny_ablation.errors import DataError


@dataclass(frozen=True)
class Prompt:
    """One example as the engine sees it."""

    ids: Ids  # the prompt's tokens
    target: Ids  # the answer's tokens; one with `span=first`
    foil: Ids  # the wrong answer's tokens; empty where there is none, for metrics that need none
    marks: Mapping[str, tuple[int, ...]]  # named token positions of the prompt, such as `{"subject": (4, 5)}`
    name: str  # the example's id, for messages
    right: Ids = ()  # with `span=first`: the tokens that are right at the answer position; empty is the target's first alone
    wrong: Ids = ()  # the tokens that they are compared with; empty is the foil's first alone

    @property
    def last(self) -> int:
        """The answer position: the last prompt token."""
        return len(self.ids) - 1

    def covers(self, spec: PositionSpec, position: int) -> bool:
        """Whether an intervention at `spec` touches this token.

        `all` and `after_first` also touch the tokens of a teacher-forced continuation; everything else is in the prompt.
        """
        if spec == "all":
            return True
        if spec == "after_first":
            return position > 0
        if spec == "last":
            return position == self.last
        if isinstance(spec, int):
            return position == (spec if spec >= 0 else len(self.ids) + spec)
        if spec not in self.marks:
            raise DataError(f"ablation.positions: example {self.name} has no marked position {spec!r}")
        return position in self.marks[spec]


Prompts = Sequence[Prompt] | Mapping[int, Prompt]  # by example


@dataclass(frozen=True)
class Read:
    """A position at which the next-token distribution is looked at, and the tokens it is asked about; see `Reads`."""

    position: int
    tokens: Ids
    foils: Ids
    is_foil: bool


@dataclass(frozen=True)
class TokenSequence:
    """Tokens that go through the network in one piece: a prompt, or a prompt and an answer without its last token."""

    example: int
    ids: Ids
    reads: tuple[Read, ...]


def sequences(prompts: Sequence[Prompt], *, full: bool) -> list[TokenSequence]:
    """The token sequences to run: one an example, or with `full` one each for target and foil."""
    out = []
    for index, prompt in enumerate(prompts):
        if not full:
            right, wrong = prompt.right or prompt.target[:1], prompt.wrong or prompt.foil[:1]
            out.append(TokenSequence(index, prompt.ids, (Read(prompt.last, right, wrong, False),)))
            continue
        for answer, is_foil in ((prompt.target, False), (prompt.foil, True)):
            if answer:
                reads = tuple(Read(prompt.last + i, (token,), (token,), is_foil) for i, token in enumerate(answer))
                out.append(TokenSequence(index, prompt.ids + answer[:-1], reads))
    return out
