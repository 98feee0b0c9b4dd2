"""From examples to token ids, answers tokenised where they stand.

An answer is tokenised together with its prompt, since that is what the model would write. A prompt whose own
tokens change when the answer follows ("the answer is 1" + "0") has no answer position and is refused, as is,
at `metrics.span=first`, an answer of several tokens.

Sets of answers (`Example.targets`) become the sets of tokens that they begin with at the answer position, and no token
may begin a right and a wrong one: then the probability of a set is the sum over its tokens.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from tiny_ablation.config.schema import Span
from tiny_ablation.data import chat, marks
from tiny_ablation.data.examples import Example
from tiny_ablation.data.examples import Span as Characters
from tiny_ablation.data.text import listing, spaceless, token_text
from tiny_ablation.errors import DataError

Ids = tuple[int, ...]
_CHUNK = 4096  # rows that are encoded together: places of tokens take ten times the memory of the tokens


@dataclass(frozen=True)
class TokenizedExample:
    """An example as a model reads it."""

    example: Example  # what was tokenised
    clean_ids: Ids  # the clean prompt, with the special tokens that a prompt of this model begins with
    corrupt_ids: Ids  # the corrupt prompt likewise; empty where the example has none
    target_ids: Ids  # what the target adds to the clean prompt; one token at `metrics.span=first`
    foil_ids: Ids  # what the foil adds to it; empty where there is none
    right_ids: Ids  # the tokens that are right at the answer position, ascending; `metrics.span=first` scores them together
    wrong_ids: Ids  # the tokens that they are compared with
    marks: dict[str, tuple[int, ...]]  # positions in `clean_ids` by name; always with `last`
    corrupt_marks: dict[str, tuple[int, ...]]  # positions in `corrupt_ids` by name; empty where there is no corrupt prompt

    @property
    def n_tokens(self) -> int:
        """The length of the clean prompt; the answer position is the last of it."""
        return len(self.clean_ids)


class Unscorable(NamedTuple):
    """An example that this tokenizer cannot score, and why."""

    id: str
    reason: str
    several_tokens: bool = False  # an answer is longer than one token, and that is all


class Servable(NamedTuple):
    """The examples that can be scored, in their order, and those that cannot."""

    examples: list[TokenizedExample]
    unscorable: list[Unscorable]


class _Encoded(NamedTuple):
    """The tokens of one text, without special ones."""

    ids: Ids
    offsets: list[Characters] | None


class _Row(NamedTuple):
    """One example with the tokens of its prompts, and of the clean one with each answer behind it."""

    example: Example
    clean: _Encoded
    corrupt: _Encoded
    right: dict[str, Ids]
    wrong: dict[str, Ids]

    @property
    def with_target(self) -> Ids:
        return self.right[self.example.target]

    @property
    def with_foil(self) -> Ids:
        """Empty where there is no foil."""
        return self.wrong.get(self.example.foil, ())

    def answers(self) -> Iterator[tuple[str, str, Ids]]:
        """Name, text and tokens of every answer, the right ones first."""
        for name, texts in (("target", self.right), ("foil", self.wrong)):
            yield from ((name, text, ids) for text, ids in texts.items())

    def follows(self, together: Ids) -> bool:
        """Whether the tokens are those of the prompt and then some."""
        n_prompt = len(self.clean.ids)
        return len(together) > n_prompt and together[:n_prompt] == self.clean.ids

    def first_tokens(self, texts: dict[str, Ids]) -> Ids:
        """The tokens at the answer position that begin one of the texts, ascending."""
        return tuple(sorted({ids[len(self.clean.ids)] for ids in texts.values() if self.follows(ids)}))


def tokenize(
    examples: Sequence[Example],
    tokenizer: Any,
    *,
    opening: Ids,
    span: Span,
    context: int | None = None,
    answer_prefix: str = "",
) -> list[TokenizedExample]:
    """Every example as token ids.

    Args:
        examples: the examples of a run.
        tokenizer: a Hugging Face tokenizer.
        opening: the special tokens to put first; the tokenizer itself adds nothing.
        span: `first` requires one token for each answer, and different ones for right and wrong; `full` one target
            and one foil.
        context: tokens that the model was made for; None for no limit. Models with rotary positions compute on beyond it, and
            what they say there is noise.
        answer_prefix: of conversations: what the answer begins with, before the target.

    Raises:
        DataError: some cannot be scored; names all of them.
    """
    served = scorable(examples, tokenizer, opening=opening, span=span, context=context, answer_prefix=answer_prefix)
    if served.unscorable:
        count = f"{len(served.unscorable)} of {len(examples)} examples"
        rows = listing([f"{row.id}: {row.reason}" for row in served.unscorable], separator="; ")
        advice = " Set metrics.span=full to score answers of several tokens, or choose one-token answers."
        raise DataError(
            f"{count} cannot be scored with this model: {rows}."
            + (advice if any(row.several_tokens for row in served.unscorable) else "")
        )
    return served.examples


def scorable(
    examples: Sequence[Example],
    tokenizer: Any,
    *,
    opening: Ids,
    span: Span,
    context: int | None = None,
    answer_prefix: str = "",
) -> Servable:
    """The examples that this tokenizer can score, and the reason for each that it cannot; see `tokenize`."""
    served = Servable([], [])
    for row in each_scored(examples, tokenizer, opening=opening, span=span, context=context, answer_prefix=answer_prefix):
        (served.examples if isinstance(row, TokenizedExample) else served.unscorable).append(row)  # pyright: ignore
    return served


def each_scored(
    examples: Sequence[Example],
    tokenizer: Any,
    *,
    opening: Ids,
    span: Span,
    context: int | None = None,
    answer_prefix: str = "",
) -> Iterator[TokenizedExample | Unscorable]:
    """Each example as in `scorable`, some thousand at a time, for whoever needs a little of each of a million."""
    for first in range(0, len(examples), _CHUNK):
        chunk: list[Example | Unscorable] = []
        for example in examples[first : first + _CHUNK]:
            try:
                chunk.append(chat.rendered(example, tokenizer, answer_prefix))
            except chat.ChatError as error:
                chunk.append(Unscorable(example.id, str(error)))
        rows = _encode_rows([e for e in chunk if isinstance(e, Example)], tokenizer)
        for each in chunk:
            if isinstance(each, Unscorable):
                yield each
            else:
                row = next(rows)
                yield _fault(row, tokenizer, opening, span, context) or _tokenized(row, opening)


def front(ids: Ids, opening: Ids) -> Ids:
    """What to put in front of the tokens of a text: the opening, unless the text is written with it."""
    return () if ids[: len(opening)] == opening else opening


def _tokenized(row: _Row, opening: Ids) -> TokenizedExample:
    example, n_prompt = row.example, len(row.clean.ids)
    fronts = [front(encoded.ids, opening) for encoded in (row.clean, row.corrupt)]
    return TokenizedExample(
        example=example,
        clean_ids=fronts[0] + row.clean.ids,
        corrupt_ids=fronts[1] + row.corrupt.ids if row.corrupt.ids else (),
        target_ids=row.with_target[n_prompt:],
        foil_ids=row.with_foil[n_prompt:],
        right_ids=row.first_tokens(row.right),
        wrong_ids=row.first_tokens(row.wrong),
        marks=_marks(row.clean, marks.clean_spans(example), fronts[0]),
        corrupt_marks=_marks(row.corrupt, marks.corrupt_spans(example), fronts[1]) if row.corrupt.ids else {},
    )


def _marks(encoded: _Encoded, spans: dict[str, Characters], opening: Ids) -> dict[str, tuple[int, ...]]:
    if encoded.offsets is None:
        # A tokenizer written in Python does not say which characters a token covers.
        return {marks.LAST: (len(opening) + len(encoded.ids) - 1,)}
    return marks.token_marks(spans, encoded.offsets, len(opening))


def _encode_rows(examples: Sequence[Example], tokenizer: Any) -> Iterator[_Row]:
    clean = _encode([e.clean for e in examples], tokenizer)
    corrupt = _encode([e.corrupt for e in examples], tokenizer)
    together = [e.clean + text for e in examples for text in (*e.right, *e.wrong)]
    answered = iter(_encode(together, tokenizer, offsets=False))
    for e, c, k in zip(examples, clean, corrupt, strict=True):
        right, wrong = ({text: next(answered).ids for text in texts} for texts in (e.right, e.wrong))
        yield _Row(e, c, k, right, wrong)


def _encode(texts: list[str], tokenizer: Any, *, offsets: bool = True) -> list[_Encoded]:
    """The tokens of each text, in one call; where they stand only if asked, since that takes longer."""
    if not texts:
        return []
    fast = offsets and bool(getattr(tokenizer, "is_fast", False))
    batch = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=fast, return_attention_mask=False, verbose=False)
    places = batch["offset_mapping"] if fast else [None] * len(texts)
    return [_Encoded(tuple(ids), o) for ids, o in zip(batch["input_ids"], places, strict=True)]


def _fault(row: _Row, tokenizer: Any, opening: Ids, span: Span, context: int | None) -> Unscorable | None:
    """Why an example cannot be scored, or None."""
    example, n_prompt = row.example, len(row.clean.ids)
    if not opening and not n_prompt:
        return Unscorable(example.id, "its prompt has no tokens")
    if example.corrupt and not row.corrupt.ids:
        return Unscorable(example.id, "its corrupt prompt has no tokens")
    if span is Span.full and example.has_sets:
        return Unscorable(example.id, "it has sets of answers, which are scored with metrics.span=first only")
    for name, text, together in row.answers():
        # What a tokenizer would write otherwise is left out of a set that allows it, but not the answer that is named.
        needed = not example.by_first_token or text in (example.target, example.foil)
        if needed and not row.follows(together):
            hint = _space_hint(example.clean, text)
            return Unscorable(example.id, f"{name} {text!r} changes the tokens of the prompt it follows{hint}")
    if row.with_target == row.with_foil:
        return Unscorable(example.id, f"target {example.target!r} and foil {example.foil!r} are the same tokens")
    if span is Span.first and (fault := _first_token_fault(row, tokenizer)):
        return fault
    # With all of an answer but its last token, where answers are scored whole.
    behind = max(len(row.with_target), len(row.with_foil)) - n_prompt - 1 if span is Span.full else 0
    n = len(opening) + max(n_prompt, len(row.corrupt.ids)) + behind
    if context is None or n <= context:
        return None
    return Unscorable(example.id, f"it is {n:,} tokens long, and the model was made for {context:,}")


def _first_token_fault(row: _Row, tokenizer: Any) -> Unscorable | None:
    """The answers that are longer than one token where each has to be one, or begin like one of the other side."""
    example, n_prompt = row.example, len(row.clean.ids)
    words = lambda ids: " ".join(repr(token_text(tokenizer, i)) for i in ids)  # noqa: E731
    long = [
        f"{name} {text!r} is {len(together) - n_prompt} tokens ({words(together[n_prompt:])}){_space_hint(example.clean, text)}"
        for name, text, together in row.answers()
        if len(together) > n_prompt + 1 and not example.by_first_token
    ]
    if long:
        return Unscorable(example.id, " and ".join(long), several_tokens=not example.has_sets)
    shared = sorted({*row.first_tokens(row.right)} & {*row.first_tokens(row.wrong)})
    if shared:
        return Unscorable(example.id, f"{words(shared)} begins right and wrong answers")
    return None


def _space_hint(prompt: str, answer: str) -> str:
    """What to try where a word is glued to the prompt's last word."""
    glued = prompt[-1:].isalnum() and answer[:1].isalnum() and not spaceless(answer[0])
    return f" (did you mean {' ' + answer!r}, with its leading space?)" if glued else ""
