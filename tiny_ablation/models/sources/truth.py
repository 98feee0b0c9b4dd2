"""What ablation must find in a model whose circuit is known."""

from dataclasses import dataclass

Head = tuple[int, int]  # (layer, head)


@dataclass(frozen=True)
class Truth:
    """The circuit of a model."""

    # Zeroing any one of these heads changes what the model answers; in the trained models it destroys it.
    needed: tuple[Head, ...] = ()
    # Zeroing both heads of a pair destroys the right answer, zeroing one of them hardly costs any. In logits their effects
    # add up, for both write there directly; probabilities and accuracy show it.
    pairs: tuple[tuple[Head, Head], ...] = ()
    # Heads that write, and have an effect of exactly 0.
    dead: tuple[Head, ...] = ()
    # Those of the needed heads that write the same for all prompts of one length, such as one that counts the tokens; taking
    # their value from another prompt of that length changes nothing.
    constant: tuple[Head, ...] = ()
