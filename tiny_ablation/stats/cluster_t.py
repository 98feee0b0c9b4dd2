"""The mean over examples with an error and degrees of freedom that hold when groups are few and unequal.

Reference:
    Bell & McCaffrey 2002, Bias Reduction in Standard Errors for Linear Regression with Multi-Stage Samples (the error, known
    as CR2, and Satterthwaite's degrees of freedom, both for independent examples of equal variance, which also serve where the
    examples of a group depend on each other); Pustejovsky & Tipton 2018, Small-Sample Methods for Cluster-Robust Variance
    Estimation.
"""

from typing import NamedTuple

import numpy as np

from tiny_ablation.stats.clusters import Floats


class ClusterT(NamedTuple):
    """Everything that a cluster-robust Student t needs, each (n_sites,)."""

    mean: Floats
    error: Floats  # NaN with fewer than two groups
    freedom: Floats  # NaN with fewer than two groups


def cluster_t(sums: Floats, sizes: Floats) -> ClusterT:
    """The mean of each site, its standard error and the degrees of freedom of the error."""
    shares = group_shares(sums, sizes)
    total = np.broadcast_to(sizes, sums.shape).sum(1)
    mean = sums.sum(1) / total
    residuals = sums / total[:, None] - mean[:, None] * shares
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.sqrt((residuals**2 / (1 - shares)).sum(1))
    freedom = degrees_of_freedom(shares)
    return ClusterT(mean, np.where(np.isfinite(freedom), error, np.nan), freedom)


def group_shares(sums: Floats, sizes: Floats) -> Floats:
    """(n_sites, n_groups): each group's share of the site's examples."""
    weights = np.broadcast_to(np.asarray(sizes, dtype=np.float64), sums.shape)
    return weights / weights.sum(1, keepdims=True)


def degrees_of_freedom(shares: Floats) -> Floats:
    """(n_sites,) Satterthwaite's degrees of freedom of the error, from the shares (n_sites, n_groups) of the groups.

    The number of groups less one where they are of equal size, less where some are large; NaN for one group.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        leverage = shares**2 / (1 - shares)
        found = 1 / ((shares**2).sum(1) + leverage.sum(1) ** 2 - (leverage**2).sum(1))
    return np.where((shares < 1).all(1), found, np.nan)
