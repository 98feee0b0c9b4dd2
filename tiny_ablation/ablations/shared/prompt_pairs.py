"""What kinds that take values from the paired prompt need of the pairs, and the errors where they do not have it."""

from collections.abc import Mapping, Sequence

from tiny_ablation.data.text import listing
from tiny_ablation.engine.prompts import Prompt
from tiny_ablation.errors import DataError
from tiny_ablation.run.plan import PlanContext


def require_corrupt(context: PlanContext, what: str) -> None:
    """Refuse examples without a paired prompt.

    Raises:
        DataError: names them.
    """
    missing = [clean.name for clean, corrupt in zip(context.clean, context.corrupt, strict=True) if not corrupt.ids]
    if missing:
        raise DataError(
            f"{what} takes values from the paired prompt, and {len(missing)} of {len(context.clean)} examples have no corrupt "
            f"prompt: {listing(missing)}; add the field corrupt to these rows, or choose another ablation"
        )


def unequal(context: PlanContext) -> Mapping[int, str]:
    """The examples whose two prompts have unequal numbers of tokens, with these numbers."""
    return {
        index: f"its clean prompt has {len(clean.ids)} tokens, its corrupt one {len(corrupt.ids)}"
        for index, (clean, corrupt) in enumerate(zip(context.clean, context.corrupt, strict=True))
        if corrupt.ids and len(clean.ids) != len(corrupt.ids)
    }


def require_equal(context: PlanContext, what: str, *, advice: str) -> None:
    """Refuse pairs of unequal lengths, in which a position has no counterpart.

    Raises:
        DataError: names them, or nothing is left.
    """
    if not context.clean:
        raise DataError(f"{what} needs pairs of equal token lengths, and no example has one")
    found = unequal(context)
    if found:
        names = listing([context.clean[i].name for i in found])
        raise DataError(
            f"{what} needs pairs of equal token lengths, so that a token has a counterpart, and {len(found)} of "
            f"{len(context.clean)} examples differ: {names}; {advice}"
        )


def require_mark(prompts: Sequence[Prompt], mark: str, what: str) -> None:
    """Refuse prompts in which nothing is marked by that name.

    Raises:
        DataError: names them.
    """
    missing = list(dict.fromkeys(p.name for p in prompts if not p.marks.get(mark)))
    if missing:
        raise DataError(
            f"{what}: {len(missing)} examples have no {mark} in one of their prompts: {listing(missing)}; "
            f"name it in the field {mark}, or choose other positions"
        )
