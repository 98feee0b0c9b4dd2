"""How continuations are written, token by token: which token comes next, and where the text ends.

The most probable token, or, at a temperature above 0, a sampled one: that with the largest score over the temperature plus
Gumbel noise, which is a draw from the softmax (and the one that PyTorch's `multinomial` makes). An example has the same
noise under every intervention, so that texts differ where the intervention made them differ, and tests are paired.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tiny_ablation.engine.edits import Ids
from tiny_ablation.engine.prompts import Prompt, Read, TokenSequence
from tiny_ablation.errors import NumericsError
from tiny_ablation.metrics.written import Asked, Written


@dataclass(frozen=True)
class Decoding:
    """How the continuations of a run are written."""

    tokenizer: Any  # of the model
    ends: frozenset[int]  # the tokens that end a text
    max_new_tokens: int  # of a continuation
    temperature: float  # 0 takes the most probable token
    stop: Sequence[str]  # texts that end a continuation, and are not part of it
    asked: Sequence[Asked]
    seeds: Sequence[int]  # for each example, that of its draws

    def text(self, prompt: Ids, new: Ids) -> str:
        """What `new` adds to a prompt, as text, without what ends it."""
        text = self._added(prompt, new)
        ends = [at for stop in self.stop if (at := text.find(stop)) >= 0]
        return text[: min(ends, default=len(text))]

    def goes_on(self, prompt: Ids, new: Ids) -> bool:
        """Whether another token is to be written."""
        if new[-1] in self.ends or len(new) >= self.max_new_tokens:
            return False
        return not self.stop or not any(stop in self._added(prompt, new) for stop in self.stop)

    def _added(self, prompt: Ids, new: Ids) -> str:
        ids = new[:-1] if new and new[-1] in self.ends else new
        # Decoded with the prompt: what stands at the beginning of a text is decoded otherwise by some tokenizers.
        before, whole = (self._decoded(part) for part in (prompt, prompt + ids))
        return whole[len(before) :] if whole.startswith(before) else self._decoded(ids)

    def _decoded(self, ids: Ids) -> str:
        return self.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def written(self, pens: Sequence[Sequence["Pen"]]) -> Written:
        """What pens (runs, examples) wrote, as metrics read it."""
        asked = [self.asked[pen.example] for pen in pens[0]]
        return Written([[pen.text for pen in row] for row in pens], asked)


class Pen:
    """One continuation as it is written.

    Attributes:
        ids: the tokens so far, with the one that ended the text.
        first: the most probable first token; -1 before there is one.
        open: whether more is to come.
    """

    def __init__(self, decoding: Decoding, example: int, prompt: Prompt, label: str) -> None:
        self.example, self.prompt, self.label = example, prompt, label
        self.ids: Ids = ()
        self.first, self.open = -1, True
        self._decoding = decoding
        self._random = torch.Generator().manual_seed(decoding.seeds[example])

    @property
    def sequence(self) -> TokenSequence:
        """All tokens so far, of which the last is read."""
        ids = self.prompt.ids + self.ids
        return TokenSequence(self.example, ids, (Read(len(ids) - 1, (0,), (), is_foil=False),))

    @property
    def text(self) -> str:
        """The continuation so far, without what ended it."""
        return self._decoding.text(self.prompt.ids, self.ids)

    def write(self, logits: Float[Tensor, "d_vocab"]) -> Float[Tensor, "d_vocab"]:
        """Write the next token, of which these are the logits, to a text that is open.

        Returns:
            The scores of which the largest was taken, in logits.

        Raises:
            NumericsError: the logits are NaN or infinite.
        """
        scores, decoding = (logits.cpu() if logits.dtype == torch.float64 else logits.float().cpu(), self._decoding)
        best = int(scores.argmax())
        if not torch.isfinite(scores[best]):
            raise NumericsError(
                f"{self.label}: the logits hold NaN or infinity while {self.prompt.name} is continued; try device.dtype=float32"
            )
        if not self.ids:
            self.first = best
        if decoding.temperature > 0:
            noise = torch.empty(len(scores)).exponential_(generator=self._random)
            scores = scores - decoding.temperature * noise.to(scores).log()
            best = int(scores.argmax())
        self.ids += (best,)
        self.open = decoding.goes_on(self.prompt.ids, self.ids)
        return scores


def end_tokens(hf: Any, tokenizer: Any) -> frozenset[int]:
    """The tokens that end a text: those of the model's generation config, else of its config, else the tokenizer's."""
    configs = (getattr(hf, "generation_config", None), hf.config.get_text_config(), tokenizer)
    found = next((e for c in configs if (e := getattr(c, "eos_token_id", None)) is not None), ())
    return frozenset([found] if isinstance(found, int) else found)
