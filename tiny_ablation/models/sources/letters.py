"""The tokenizer of the models with a known circuit: 24 letters, each a word, and a beginning of sequence.

It puts the beginning of sequence first, as the models were trained. A word that is none of the letters becomes
that same token, so target and foil of another corpus are equal and the run is refused.
"""

import string
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

LETTERS = tuple(string.ascii_lowercase[:24])
START = "<s>"
BOS = 0  # the id of START; the letters follow


def letter_tokenizer() -> "PreTrainedTokenizerFast":
    """A new tokenizer; words are separated by white space, which belongs to no token."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocab = {START: BOS, **{letter: 1 + i for i, letter in enumerate(LETTERS)}}
    inner: Any = Tokenizer(models.WordLevel(vocab=vocab, unk_token=START))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.post_processor = processors.TemplateProcessing(
        single=f"{START} $A", pair=f"{START} $A $B", special_tokens=[(START, BOS)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token=START, eos_token=START, pad_token=START, unk_token=START
    )
