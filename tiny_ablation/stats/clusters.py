"""Examples that share a template are not independent: sums over the groups that are."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tiny_ablation.errors import GuardError

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.integer[Any]]


class Clusters(NamedTuple):
    """What clustered statistics need of a table of examples; groups are in the order of their labels."""

    sums: Floats  # (n_sites, n_groups), the sum of each group's values
    sizes: Floats  # (n_groups,), examples per group


def cluster_sums(values: ArrayLike, groups: ArrayLike) -> Clusters:
    """The sum of each group's values, from finite values (n_sites, n_examples), and the groups' sizes.

    Raises:
        GuardError: there is no example, the shapes do not fit, or a value is NaN or infinite.
    """
    table, labels = np.asarray(values, dtype=np.float64), np.asarray(groups)
    if table.ndim != 2 or labels.shape != table.shape[1:] or not labels.size:
        raise GuardError(f"Values of shape {table.shape} do not fit groups of shape {labels.shape}.")
    if not np.isfinite(table).all():
        site, example = np.argwhere(~np.isfinite(table))[0]
        raise GuardError(f"Site {site}, example {example} is {table[site, example]}; no statistic can use it.")
    _, group_of, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    order = np.argsort(group_of, kind="stable")
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    return Clusters(np.add.reduceat(table[:, order], starts, axis=1), sizes.astype(np.float64))


def excludes_zero(low: ArrayLike, high: ArrayLike) -> NDArray[np.bool_]:
    """Whether each interval excludes 0; one that is missing does not."""
    return (np.asarray(low) > 0) | (np.asarray(high) < 0)


class Intervals(NamedTuple):
    """One interval per site, NaN where it cannot be estimated."""

    low: Floats  # (n_sites,)
    high: Floats  # (n_sites,)
