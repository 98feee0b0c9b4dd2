"""`metrics/groups.parquet`: what each group of examples says of the run as a whole, for pooling runs over seeds.

Runs with other seeds draw other examples of the same groups (wordings). They are more examples and no repeated measurements, so
what they say together is told by their groups, and not by the spread of a few means.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from tiny_ablation.config.schema import Span
from tiny_ablation.run.baseline import is_right
from tiny_ablation.run.measure import Measured
from tiny_ablation.run.preference import DIFFERENCES
from tiny_ablation.run.prepare import PreparedRun


def groups_table(prepared: PreparedRun, measured: Sequence[Measured]) -> pd.DataFrame | None:
    """A row per group of the first arm: `n` examples, `baseline/NAME` and `effect/NAME`, each the mean over them.

    `baseline/` is of the un-intervened run (`accuracy`, `preference` and every metric), `effect/` of the average site.
    """
    first = measured[0]
    if not len(first.examples) or not first.arm.rows:
        return None
    columns = {f"baseline/{name}": values for name, values in baseline_columns(prepared, first).items()}
    columns |= {f"effect/{m.name}": effect_of_average_site(first, m.name) for m in prepared.metrics}
    frame = pd.DataFrame({name: np.asarray(values, dtype=np.float64) for name, values in columns.items()})
    by_group = frame.groupby(pd.Index(first.groups, name="group"), sort=True)
    return pd.DataFrame({"n": by_group.size()}).join(pd.DataFrame(by_group.mean())).reset_index()


def baseline_columns(prepared: PreparedRun, measured: Measured) -> dict[str, Any]:
    """Per example of the un-intervened run: whether it is right, whether the target is preferred, every metric."""
    difference = next((measured.baseline[name] for name in DIFFERENCES if name in measured.baseline), None)
    preferred = {} if difference is None else {"preference": difference > 0}
    tokens = [prepared.tokens[i] for i in measured.examples]
    right = is_right(tokens, measured.top1_baseline.tolist())
    if prepared.spec.settings.root.metrics.span is Span.full:
        right = preferred.get("preference")
    return {**({} if right is None else {"accuracy": right}), **preferred, **measured.baseline}


def effect_of_average_site(measured: Measured, name: str) -> "np.ndarray":
    """(n,) per example, the mean effect over all rows of the arm that were intervened on."""
    ran = measured.ran
    return np.nanmean(measured.delta(name)[ran if ran.any() else slice(None)], axis=0)
