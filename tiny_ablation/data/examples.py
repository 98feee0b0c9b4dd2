"""One example: a pair of prompts that differ in what decides the answer.

Where several answers are right (any later year), an example has sets of them. A set is scored as a whole: its
probability is the sum over its answers.
"""

from dataclasses import dataclass, field

Span = tuple[int, int]
Turns = tuple[tuple[str, str], ...]
"""A conversation: who says what, the last turn being the one that is answered."""


@dataclass(frozen=True)
class Example:
    """A prompt pair with one answer, or with a set of them."""

    id: str  # unique in its corpus and stable between versions of it
    clean: str  # the prompt; the model is asked for its next token. It does not end in white space.
    corrupt: str  # the paired prompt, of which `foil` is the answer where the family says so
    target: str  # the right continuation of `clean`, with its leading space where the language writes one (" Paris")
    foil: str  # a wrong continuation of the same kind (" Rome"); empty where the row has none, which some metrics need
    group: str  # the cluster for statistics: examples of one group are not independent of each other
    template: str = ""  # the wording both prompts share
    subject: str = ""  # the words in `clean` that decide the answer, as they stand there; empty where nothing does
    relation: str = ""  # what is asked about the subject (`capital`), for families that have relations
    # named character spans `[start, end)` of `clean`, such as `{"subject": (15, 21)}`
    marks: dict[str, Span] = field(default_factory=dict)
    corrupt_marks: dict[str, Span] = field(default_factory=dict)  # the same names in `corrupt`
    # `train`, `dev` or `test` where the family assigns it (held-out names and templates); empty where the hash of the prompt
    # does
    split: str = ""
    targets: tuple[str, ...] = ()  # all right continuations, `target` among them; empty where it is the only one
    foils: tuple[str, ...] = ()  # all wrong continuations that count, `foil` among them; empty where it is the only one
    # whether answers count by the first token that a tokenizer makes of them (the decade of a year, where it splits numbers
    # into digits), and those that it would not write after the prompt are left out. Otherwise each has to be one token, as
    # without sets.
    by_first_token: bool = False
    # the conversation that `clean` is asked in, with `dataset.chat`; `clean` is what is said in it until it is tokenised, and
    # then what the model's chat template makes of it
    turns: Turns = ()
    corrupt_turns: Turns = ()  # that of `corrupt`

    @property
    def right(self) -> tuple[str, ...]:
        """Every right continuation."""
        return self.targets or (self.target,)

    @property
    def wrong(self) -> tuple[str, ...]:
        """Every wrong continuation that counts; none where the row has no foil."""
        return self.foils or ((self.foil,) if self.foil else ())

    @property
    def has_sets(self) -> bool:
        """Whether several answers are scored together."""
        return bool(self.targets or self.foils)
