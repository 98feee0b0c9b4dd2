"""Sizes of effects as they would likely be measured again: shrunken towards 0, the more the noisier they are.

All sites of a family together tell how large effects are at all. Their prior is a mixture of normal distributions around 0,
among them 0 itself, whose weights are estimated from the family; a site's shrunken size is its posterior mean. Standard errors
are shrunken towards each other first, since that of one site is rough where groups are few. The strongest of many small effects
shrink to a fraction, a clear effect hardly at all.

Reference:
    Stephens 2017, False Discovery Rates: A New Deal (adaptive shrinkage); Smyth 2004, Linear Models and Empirical Bayes
    Methods for Assessing Differential Expression (moderated variances).
"""

import numpy as np

from tiny_ablation.stats.clusters import Floats

# As in Stephens 2017: the grid of standard deviations grows by this factor, and 0 is favoured by as many sites.
_STEP, _FAVOUR_ZERO, _ROUNDS = np.sqrt(2), 10, 200


def shrunken(mean: Floats, error: Floats, freedom: Floats) -> Floats:
    """(n_sites,) the posterior mean of each site's effect, between 0 and the measured mean.

    `error` are the standard errors, `freedom` their degrees of freedom; all sites of a family. A site whose error is 0 or
    missing stays as it is.
    """
    result = np.array(mean, dtype=np.float64)
    noisy = np.isfinite(mean) & np.isfinite(error) & (error > 0)
    if noisy.sum() < 2:
        return result
    effects, variances = result[noisy], moderated(error[noisy] ** 2, freedom[noisy])
    most = np.sqrt(max(0.0, float((effects**2 - variances).max())))
    least = np.sqrt(variances.min()) / 10
    steps = int(np.ceil(np.log(max(2 * most / least, 1)) / np.log(_STEP))) + 1
    prior = np.concatenate([[0.0], least * _STEP ** np.arange(steps)]) ** 2  # variances, 0 first
    total = variances[:, None] + prior  # (n_sites, n_grid)
    log_density = -0.5 * (effects[:, None] ** 2 / total + np.log(total))
    density = np.exp(log_density - log_density.max(1, keepdims=True))
    weights = np.full(len(prior), 1 / len(prior))
    extra = np.where(prior == 0, _FAVOUR_ZERO - 1, 0.0)
    for _ in range(_ROUNDS):
        share = density * weights
        weights = (share / share.sum(1, keepdims=True)).sum(0) + extra
        weights /= weights.sum()
    share = density * weights
    share /= share.sum(1, keepdims=True)
    result[noisy] = effects * (share * prior / total).sum(1)
    return result


def moderated(variances: Floats, freedom: Floats) -> Floats:
    """(n_sites,) variances shrunken towards what the family's have in common, by its scaled inverse chi-squared prior."""
    from scipy.special import digamma, polygamma

    logs = np.log(variances) - digamma(freedom / 2) + np.log(freedom / 2)
    excess = logs.var(ddof=1) - polygamma(1, freedom / 2).mean()
    if excess <= 0:  # no more spread than sampling makes: one variance for all
        return np.full(len(variances), np.exp(logs.mean()))
    prior = 2 * _inverse_trigamma(float(excess))
    common = np.exp(logs.mean() + digamma(prior / 2) - np.log(prior / 2))
    return (prior * common + freedom * variances) / (prior + freedom)


def _inverse_trigamma(value: float) -> float:
    """Where trigamma, which falls from infinity to 0, has this value; by halving."""
    from scipy.special import polygamma

    low, high = -20.0, 20.0  # logarithms
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (middle, high) if float(polygamma(1, np.exp(middle))) > value else (low, middle)
    return float(np.exp(low))
