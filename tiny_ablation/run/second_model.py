"""What two models of one run must have in common, so that a place of one is the same place of the other."""

from collections.abc import Mapping, Sequence
from dataclasses import fields

from tiny_ablation.config.schema import RootConfig
from tiny_ablation.data.tokens import TokenizedExample
from tiny_ablation.errors import ModelError
from tiny_ablation.models.hookpoints import ModelShape
from tiny_ablation.models.loader import LoadedModel
from tiny_ablation.models.network import Network
from tiny_ablation.run.examples import scorable_by

_NAMED = 3  # tokens that a message names


def require_alike(first: Network, second: Network) -> None:
    """Refuse two models whose places do not correspond, or that are one and the same.

    Raises:
        ModelError: names all that differs: the sizes, the order of the parts of a block, the tokens.
    """
    names = f"the models {first.model.name} and {second.model.name}"
    if first.model.weights_hash == second.model.weights_hash:
        raise ModelError(f"{names} have the same weights, so nothing can differ between them")
    faults = [*_sizes(first.shape, second.shape), *_blocks(first, second), *_vocabulary(first.model, second.model)]
    if faults:
        raise ModelError(
            f"{names} are not of one shape: {'; '.join(faults)}. A value of one can be put into the other only where both have "
            "the same places and tokens"
        )


def _sizes(first: ModelShape, second: ModelShape) -> list[str]:
    return [
        f"{each.name} is {a} and {b}"
        for each in fields(ModelShape)
        if (a := getattr(first, each.name)) != (b := getattr(second, each.name))
    ]


def _blocks(first: Network, second: Network) -> list[str]:
    if first.parallel == second.parallel:
        return []
    return [f"the MLP stands beside attention in {(first if first.parallel else second).model.name} only"]


def _vocabulary(first: LoadedModel, second: LoadedModel) -> list[str]:
    mine, theirs = _ids(first), _ids(second)
    other = sorted(token for token in mine.keys() & theirs.keys() if mine[token] != theirs[token])
    found = []
    if other:
        shown = ", ".join(f"{token!r} is {mine[token]} and {theirs[token]}" for token in other[:_NAMED])
        found.append(f"{len(other)} tokens have other ids ({shown})")
    elif not mine.keys() & theirs.keys():
        found.append("no token is in both vocabularies")
    if first.opening != second.opening:
        found.append(f"prompts begin with the tokens {list(first.opening)} and {list(second.opening)}")
    return found


def _ids(model: LoadedModel) -> Mapping[str, int]:
    return model.tokenizer.get_vocab()


def require_same_tokens(other: LoadedModel, tokens: Sequence[TokenizedExample], root: RootConfig) -> None:
    """Refuse a second model whose tokenizer makes other tokens of the run's prompts and answers.

    Raises:
        ModelError: names the first example.
    """
    served = scorable_by(other, [each.example for each in tokens], root)
    again = {each.example.id: each for each in served.examples}
    wrong = [each.example.id for each in tokens if again.get(each.example.id) != each]
    if wrong:
        raise ModelError(
            f"the tokenizer of {other.name}, the second model, makes other tokens of {len(wrong)} of {len(tokens)} examples, "
            f"{wrong[0]} first: the two models do not read the same prompts"
        )
