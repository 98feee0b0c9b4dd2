"""How long the statistics of a large run take: all heads of the default model, for one metric."""

import time

from tiny_ablation.commands._selfcheck.checks import Check
from tiny_ablation.config.seeds import generator

N_HEADS, N_EXAMPLES, N_DRAWS = 270, 300, 10_000
SECONDS = 5.0


def check_speed() -> list[Check]:
    """Intervals and p-values of all heads, every example a group of its own, which is the most work."""
    import numpy as np

    from tiny_ablation.stats.bootstrap import cluster_bootstrap_means
    from tiny_ablation.stats.signflip import sign_flip_pvalues

    rng = generator(0, "selfcheck", "speed")
    deltas, groups = rng.normal(size=(N_HEADS, N_EXAMPLES)), np.arange(N_EXAMPLES)
    start = time.perf_counter()
    cluster_bootstrap_means(deltas, groups, N_DRAWS, 0.95, rng)
    sign_flip_pvalues(deltas, groups, N_DRAWS, rng)
    seconds = round(time.perf_counter() - start, 2)
    subject = f"{N_HEADS} heads, {N_EXAMPLES} groups, {N_DRAWS:,} draws"
    name = "Bootstrap and sign flips, per metric"
    return [Check(name, subject, f"below {SECONDS:.0f} s", seconds, seconds < SECONDS, f"{seconds:.1f} s")]
