"""An exact test of answers that are lost against answers that are gained, by the signs of groups.

Null hypothesis: what a group of examples loses or gains is as likely with the opposite sign. For groups of one example that is
a mean effect of 0, and the test is McNemar's. All assignments of signs are counted, so p-values are exact for any number of
groups, and small ones need no draws; where nearly all differences have one sign, resamples of groups often have no spread at
all, and a bootstrap-t can tell nothing.

Reference:
    McNemar 1947, Note on the Sampling Error of the Difference Between Correlated Proportions or Percentages; Canay, Romano &
    Shaikh 2017, Randomization Tests under an Approximate Symmetry Assumption.
"""

import numpy as np

from tiny_ablation.stats.clusters import Floats

BY_SIGNS = "in each group of examples as many answers may be lost as gained (exact sign flips of groups)"
_PARTS = range(1, 61)  # differences are means over so many draws at most


def sign_flip_pvalues(sums: Floats) -> Floats:
    """(n_sites,) the share of all sign assignments whose total is as far from 0 as the observed one.

    Differences are multiples of one over the number of draws, of at most 60; others are rounded to sixtieths.
    """
    parts = next((n for n in _PARTS if np.allclose(sums * n, np.rint(sums * n), atol=1e-6)), _PARTS[-1])
    out = []
    for row in np.rint(sums * parts).astype(int):
        # The sum of those that get a plus is a walk, of which every step is made or not.
        sizes = np.abs(row[row != 0])
        share = np.ones(1)
        for size in sizes:
            share = (np.pad(share, (0, size)) + np.pad(share, (size, 0))) / 2
        least = (sizes.sum() + abs(row.sum())) // 2  # both have one parity
        out.append(min(1.0, 2 * float(share[least:].sum())))
    return np.array(out)
