"""Two runs over the same sites and prompts, compared: which effects differ, and how sure that is.

The same prompts are measured in both, so each prompt is its own control: the statistics are those of the difference of its two
effects, clustered by group as in one run (`stats.means`), with q-values over all sites.
"""

from typing import Any

import numpy as np
import pandas as pd

from tiny_ablation.config.keys import leaves
from tiny_ablation.errors import ResultsError, did_you_mean
from tiny_ablation.run.site_statistics import no_test_of
from tiny_ablation.stats.clusters import cluster_sums
from tiny_ablation.stats.fdr import LEVEL, first_step, q_values
from tiny_ablation.stats.means import cluster_means
from tiny_ablation.store.reader import Run, effects_by_example
from tiny_ablation.store.schema import TABLES


def compare(first: Run, second: Run, metric: str | None = None) -> pd.DataFrame:
    """The difference of the effects of two runs at every site that both measured, the largest first.

    The runs have the same kind of sites, and some prompts in common. The metric is the first run's primary one by default.

    Returns:
        A row per site: its columns, `delta_first, delta_second, difference` (second less first), `ci_low, ci_high, p_value,
        q_value, n` examples and `n_groups`. Without p and q for metrics that are never below 0.

    Raises:
        ResultsError: the runs have no site, metric or prompt in common.
    """
    if first.table_name != second.table_name:
        raise ResultsError(
            f"a {first.table_name} and a {second.table_name} have no site in common; compare two runs of one kind"
        )
    name = metric or first.summary["primary"]
    index = [*TABLES[first.table_name].index, "direction"]
    tables = [_deltas(run, name, index) for run in (first, second)]
    shared = tables[0].columns.intersection(tables[1].columns)
    sites = tables[0].index.intersection(tables[1].index)
    if len(shared) < 2 or not len(sites):
        what = "site" if len(shared) >= 2 else "prompt"
        more = "; different data sets are compared in one sweep, -m dataset=a,b" if what == "prompt" else ""
        raise ResultsError(f"{first.dir.path} and {second.dir.path} have no {what} in common{more}")
    before: Any = tables[0].loc[sites, shared]
    after: Any = tables[1].loc[sites, shared]
    whole = before.notna().all(axis=1) & after.notna().all(axis=1)
    before, after = before[whole], after[whole]
    groups: Any = first.per_example.drop_duplicates("example_id").set_index("example_id")["group"][shared]
    clusters = cluster_sums((after - before).to_numpy(), groups.to_numpy())
    rng, step = np.random.default_rng(0), first_step(len(before), LEVEL, "bh")
    found = cluster_means(*clusters, rng=rng, step=step)
    p: Any = np.full(len(before), np.nan) if no_test_of(name) else found.p
    table = pd.DataFrame(
        {
            "delta_first": before.mean(axis=1),
            "delta_second": after.mean(axis=1),
            "difference": found.mean,
            "ci_low": found.low,
            "ci_high": found.high,
            "p_value": p,
            "q_value": q_values(p),
            "n": len(shared),
            "n_groups": groups.nunique(),
        }
    ).reset_index()
    return table.iloc[table["difference"].abs().argsort(kind="stable")[::-1]].reset_index(drop=True)


def differing_keys(first: Run, second: Run) -> dict[str, tuple[Any, Any]]:
    """The config keys in which two runs differ, joined by dots, with both values; and their weights."""
    flat = [{**dict(leaves(run.config)), "weights": run.manifest.covers.get("weights")} for run in (first, second)]
    both = {key: (flat[0].get(key), flat[1].get(key)) for key in sorted({*flat[0], *flat[1]})}
    return {key: values for key, values in both.items() if values[0] != values[1]}


def _deltas(run: Run, metric: str, index: list[str]) -> pd.DataFrame:
    """(sites, examples): the effect on each prompt."""
    rows: Any = run.per_example
    if metric not in rows:
        measured = [name for name in rows.columns if f"{name}_baseline" in rows.columns]
        raise ResultsError(
            f"{run.dir.path} has no metric {metric}{did_you_mean(metric, measured)}; there are {', '.join(measured)}"
        )
    return effects_by_example(rows, metric, index)
