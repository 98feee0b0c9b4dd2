"""Is there an effect in every condition, or in at least so many of them? One p-value per site from one per condition.

Null hypothesis: fewer than u of the n conditions have an effect at the site. For u = n it is the largest p-value (the
intersection-union test, Berger 1982); else Bonferroni's over the n - u + 1 largest. Valid under any dependence between
conditions; q-values over sites then say which are conserved.

Reference:
    Benjamini & Heller 2008, Screening for Partial Conjunction Hypotheses, section 2.
"""

import numpy as np

from tiny_ablation.stats.clusters import Floats


def partial_conjunction(p: Floats, at_least: int) -> Floats:
    """(n_sites,) the p-value that at least so many conditions have an effect, from p-values (n_conditions, n_sites).

    `at_least` is u, 1 to n_conditions. NaN where a site was not tested in a condition.
    """
    n = len(p)
    ordered = np.sort(p, axis=0)  # NaN last
    found = np.minimum(1.0, (n - at_least + 1) * ordered[at_least - 1])
    return np.where(np.isnan(p).any(0), np.nan, found)


def same_sign_everywhere(p: Floats, effects: Floats) -> Floats:
    """(n_sites,) the p-value that all conditions have an effect of one sign: the largest, 1 where effects differ in sign.

    `p`, two-sided, and `effects` are (n_conditions, n_sites).
    """
    one_sign = (effects > 0).all(0) | (effects < 0).all(0)
    found = partial_conjunction(p, len(p))
    return np.where(one_sign | np.isnan(found), found, 1.0)
