"""The tokenizers of the models with a known circuit: a few words, each one token, and a beginning of sequence.

They put the beginning of sequence first, as the models expect. An unknown word becomes that same token, so target and foil of
another corpus are equal and the run is refused.
"""

import string
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

LETTERS = tuple(string.ascii_lowercase[:24])
START = "<s>"
BOS = 0  # the id of START; the letters follow


def letter_tokenizer() -> "PreTrainedTokenizerFast":
    """A new tokenizer of the 24 letters that the induction models know."""
    return word_tokenizer((START, *LETTERS))


def word_tokenizer(words: Sequence[str]) -> "PreTrainedTokenizerFast":
    """A new tokenizer of words (`START` among them) in the order of their ids, separated by white space."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocab = {word: i for i, word in enumerate(words)}
    inner: Any = Tokenizer(models.WordLevel(vocab=vocab, unk_token=START))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.post_processor = processors.TemplateProcessing(
        single=f"{START} $A", pair=f"{START} $A $B", special_tokens=[(START, vocab[START])]
    )
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token=START, eos_token=START, pad_token=START, unk_token=START)
