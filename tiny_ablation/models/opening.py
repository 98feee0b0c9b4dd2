"""What a tokenizer puts around a text: the special tokens that every prompt of a run begins with.

Most tokenizers begin a text with one beginning-of-sequence token or with nothing; some with other tokens (`[gMASK]<sop>`).
A model was trained on texts that begin in this way, and without these tokens its numbers are those of another input. Tokens
that a tokenizer puts after a text end it, so prompts leave them out: the answer stands in their place.
"""

from typing import Any, NamedTuple

from tiny_ablation.config.schema import ModelConfig
from tiny_ablation.errors import ModelError, is_out_of_memory, said

Ids = tuple[int, ...]


class Frame(NamedTuple):
    """The special tokens before and after a text, as a tokenizer puts them there by default."""

    before: Ids
    behind: Ids


def frame(name: str, tokenizer: Any) -> Frame:
    """What the tokenizer of the model `name` puts around one text.

    Raises:
        ModelError: it cannot tokenise, or what it puts there depends on the text.
    """
    found: set[Frame | None] = set()
    for text in ("a", "The cat"):
        try:
            own = tuple(tokenizer(text)["input_ids"])
            bare = tuple(tokenizer(text, add_special_tokens=False)["input_ids"])
        except Exception as error:  # settings of a tokenizer are used unchecked
            if is_out_of_memory(error):
                raise
            raise ModelError(
                f"the tokenizer of model {name} cannot tokenise: {said(error)}. Check its tokenizer_config.json."
            ) from error
        starts = [i for i in range(len(own) - len(bare) + 1) if own[i : i + len(bare)] == bare]
        # The last one, for an unknown word may be the same token as the one before the text.
        found.add(Frame(own[: starts[-1]], own[starts[-1] + len(bare) :]) if starts else None)
    if len(found) > 1 or None in found:
        raise ModelError(
            f"the tokenizer of model {name} does not put the same special tokens around every text, so prompts cannot be put "
            "together from tokens. Set model.prepend_bos=false to take prompts as their text alone."
        )
    return found.pop() or Frame((), ())


def opening(cfg: ModelConfig, tokenizer: Any) -> Ids:
    """The special tokens that prompts begin with, as `model.prepend_bos` asks.

    Returns:
        `auto`: what the tokenizer itself puts there. `true`: that, with a beginning-of-sequence token in front unless it holds
        one. `false`: nothing, so that a prompt is its text alone.

    Raises:
        ModelError: `true`, and the tokenizer has no such token; or see `frame`.
    """
    asked, bos = str(cfg.prepend_bos).lower(), tokenizer.bos_token_id
    if asked == "false":
        return ()
    if asked == "true" and bos is None:
        raise ModelError(f"model.prepend_bos=true, but the tokenizer of {cfg.name} has no such token; use auto or false.")
    own = frame(cfg.name, tokenizer).before
    return own if asked == "auto" or bos in own else (bos, *own)


def facts(cfg: ModelConfig, tokenizer: Any, ids: Ids) -> dict[str, str]:
    """What the provenance says of the special tokens: those of `opening`, and those behind a text that prompts leave out."""
    found = {"opening": described(tokenizer, ids)}
    behind = () if str(cfg.prepend_bos).lower() == "false" else frame(cfg.name, tokenizer).behind
    return found | ({"closing_left_out": described(tokenizer, behind)} if behind else {})


def described(tokenizer: Any, ids: Ids) -> str:
    """Special tokens as text, for people; `none` where there are none."""
    return "".join(map(str, tokenizer.convert_ids_to_tokens(list(ids)))) or "none"
