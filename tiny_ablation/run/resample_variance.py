"""How far the random draws of an intervention differ: the noise that averaging over draws leaves in a value."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from tiny_ablation.run.id_columns import named
from tiny_ablation.run.measure import Measured
from tiny_ablation.run.prepare import PreparedRun


def draws_table(prepared: PreparedRun, measured: Sequence[Measured]) -> pd.DataFrame | None:
    """Every draw of every site, a row per site, metric and draw; None where nothing was drawn several times.

    `delta` is the draw's mean effect, `variance` the (unbiased) variance of `delta` over the draws of the site, so that the
    variance of the effect in the impact table, from the choice of draws, is `variance` divided by the number of draws.
    """
    drawn = [m for m in measured if m.draws]
    if not drawn:
        return None
    frame = pd.concat(
        [_draws(m, metric.name) for m in drawn for metric in prepared.metrics], ignore_index=True
    )
    return named(prepared, frame)


def _draws(measured: Measured, metric: str) -> pd.DataFrame:
    values = measured.draws[metric]
    n_draws = values.shape[1]
    deltas = values - measured.baseline[metric].mean()
    frame = pd.DataFrame([dict(row.key) for row in measured.arm.rows])
    frame = frame.loc[frame.index.repeat(n_draws)].reset_index(drop=True)
    return frame.assign(
        metric=metric,
        draw=np.tile(np.arange(n_draws, dtype="int32"), len(values)),
        value=values.ravel(),
        delta=deltas.ravel(),
        variance=np.repeat(deltas.var(1, ddof=1), n_draws),
    )
