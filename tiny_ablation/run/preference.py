"""What the model does before anything is intervened on: overall, and for each wording."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

CHANCE = 0.5
"""How often the target is preferred to the foil by a model that knows nothing."""

MARGIN = 0.1
"""A preference whose interval does not clear chance by this much is too weak to ask what carries it."""

WELL_ABOVE = 0.75
"""From this lower bound on the documentation calls a behaviour well above chance."""

# The first of these that was measured decides whether the target is preferred: all have the sign of the log odds.
DIFFERENCES = ("logit_diff", "seq_logprob_diff", "prob_diff")


def by_template(templates: Sequence[str], columns: Mapping[str, "ArrayLike"]) -> list[dict[str, Any]]:
    """A row per template in sorted order: `template`, `n`, and the mean of each column.

    Args:
        templates: (n,), the wording of each example; empty is its own wording.
        columns: (n,) each.
    """
    labels = np.asarray(templates)
    rows = []
    for template in sorted(set(templates)):
        mine = labels == template
        means = {name: float(np.asarray(values, dtype=float)[mine].mean()) for name, values in columns.items()}
        rows.append({"template": template, "n": int(mine.sum()), **means})
    return rows


def verdict(preference: Mapping[str, float]) -> str:
    """What a share of preferred targets says, in words.

    Args:
        preference: mean and interval, as from `site_statistics.interval_of_mean`.
    """
    low, high = preference["ci_low"], preference["ci_high"]
    if not (low <= high):  # one group: there is no interval
        return "unknown (one group)"
    if low > CHANCE:
        return "well above chance" if low >= WELL_ABOVE else "above chance"
    return "below chance" if high < CHANCE else "at chance"


def is_weak(preference: Mapping[str, float]) -> bool:
    """Whether the preference does not clear chance by the margin."""
    low = preference["ci_low"]
    return (preference["mean"] if np.isnan(low) else low) < CHANCE + MARGIN
