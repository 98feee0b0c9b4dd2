"""A tokenizer for the toy models, made in code.

Every word of `toy_words.txt`, those of the behaviours that ship with the tool, is one token, with and without a space before
it, as prompts and answers are under a real model's tokenizer. The list is fixed, so that the toy models stay the same when a
corpus or a generator changes; a behaviour that is added brings its own words there. Any other text becomes one token per byte,
so that nothing is ever unknown and two different words never share their tokens. Numbers are cut into pairs of digits.
"""

import string
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

END = "<|endoftext|>"
SPACE = "Ġ"  # how the byte-level alphabet writes a space

_WORDS = r" ?\p{L}+| ?\p{N}{1,2}| ?[^\s\p{L}\p{N}]+|\s+"


def toy_tokenizer() -> "PreTrainedTokenizerFast":
    """A new tokenizer over `vocabulary()`; it adds no special tokens by itself."""
    from tokenizers import Regex, Tokenizer, decoders, models
    from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split
    from transformers import PreTrainedTokenizerFast

    vocab = {token: index for index, token in enumerate(vocabulary())}
    # `ignore_merges` looks the whole word up first; without merges the rest falls apart into bytes.
    inner: Any = Tokenizer(models.BPE(vocab=vocab, merges=[], ignore_merges=True))
    words = Split(Regex(_WORDS), behavior="isolated")
    inner.pre_tokenizer = Sequence([words, ByteLevel(add_prefix_space=False, use_regex=False)])
    inner.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token=END, eos_token=END, pad_token=END)


@lru_cache(maxsize=1)
def vocabulary() -> tuple[str, ...]:
    """The tokens in the order of their ids: the end of text, the 256 bytes, then the words in order."""
    from tokenizers.pre_tokenizers import ByteLevel

    alphabet = sorted(ByteLevel.alphabet())
    own = Path(__file__).with_name("toy_words.txt").read_text(encoding="utf-8").split()
    words = {*string.punctuation, *string.digits, *(f"{number:02d}" for number in range(100)), *own}
    spaced = {form for word in words for form in (word, SPACE + word)}
    return (END, *alphabet, *sorted(spaced - {END, *alphabet}))
