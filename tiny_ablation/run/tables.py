"""The tables of one run: per example, and per site with its interval and test.

All statistics are computed from per-example values. Effects are `delta = value - baseline` of the same example; intervals
and tests treat the examples of one group as one cluster.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from tiny_ablation.config.schema import Span
from tiny_ablation.run.baseline import PREFERENCE, is_right
from tiny_ablation.run.controls import controls_table, site_controls
from tiny_ablation.run.id_columns import stacked
from tiny_ablation.run.measure import Measured
from tiny_ablation.run.plan import COORDINATES, Analysis
from tiny_ablation.run.prepare import PreparedRun
from tiny_ablation.run.site_statistics import corrected, no_test_of, site_statistics
from tiny_ablation.store.schema import EXAMPLE_HOW, conform, conform_examples


@dataclass(frozen=True)
class RunTables:
    """The tables of a run."""

    impact: pd.DataFrame  # a row per site and metric, as in `store.schema`
    unresolvable: str | None  # why the primary metric has no p-value, in a sentence; None where it has
    family_size: int  # how many tests each q-value corrects for
    more: dict[str, pd.DataFrame] = field(default_factory=dict)  # further tables of the kind, by the stem of their file
    analysis: Analysis = field(default_factory=Analysis)  # what the ablation makes of its own measurements


def impact_table(prepared: PreparedRun, measured: Sequence[Measured], parts: Sequence[Measured] = ()) -> RunTables:
    """Every site with its interval and test, and nothing more; the family of the q-values is all of them, per metric.

    `parts` are what `cut_up` makes of `measured`, where that is at hand.
    """
    whole, parts = [m for m in measured if m.arm.in_table], parts or cut_up(measured)
    family = int(sum(m.ran.sum() for m in whole))
    frames = [frame for m in parts if m.arm.in_table for frame in _impact(prepared, m, parts, family)]
    shares = prepared.spec.ablation.shares(prepared, parts)
    frames += [_identity_columns(prepared, m).assign(**columns) for m, columns in shares]
    impact = corrected(pd.concat(frames, ignore_index=True), prepared.spec.settings.root.stats.fdr.value)
    primary = prepared.metrics[0].name
    unresolvable = None
    if min(len(set(m.groups)) for m in whole) < 2:
        unresolvable = "all examples are of one group, so nothing can be tested over groups"
    elif reason := no_test_of(primary):
        unresolvable = f"{primary}: {reason.removeprefix('none: ')}"
    return RunTables(conform(impact, prepared.spec.table), unresolvable, family)


def run_tables(prepared: PreparedRun, measured: Sequence[Measured]) -> RunTables:
    """Tables of everything that was measured, but for the examples'."""
    parts, ablation = cut_up(measured), prepared.spec.ablation
    found = impact_table(prepared, measured, parts)
    made = {name: make(prepared, parts) for name, make in _MORE.items()}
    more = {name: frame for name, frame in made.items() if frame is not None}
    analysis = ablation.analyse(prepared, parts)
    effects = found.impact.loc[found.impact["metric"] == prepared.metrics[0].name, :]
    analysis = replace(analysis, summary={**analysis.summary, **ablation.summarise(effects)})
    return replace(found, more=more | dict(analysis.tables), analysis=analysis)


def example_table(prepared: PreparedRun, measured: Sequence[Measured]) -> pd.DataFrame:
    """A row per site and example: every value that was measured."""
    rows = pd.concat([_per_example(prepared, m) for m in cut_up(measured) if m.arm.rows], ignore_index=True)
    return conform_examples(rows, prepared.spec.table, [metric.name for metric in prepared.metrics])


def draws_table(prepared: PreparedRun, measured: Sequence[Measured]) -> pd.DataFrame | None:
    """Every draw of every site, a row per site, metric and draw; None where nothing was drawn several times.

    `delta` is the draw's mean effect, `variance` the (unbiased) variance of `delta` over the draws of the site, so that the
    variance of the effect in the impact table, from the choice of draws, is `variance` divided by the number of draws.
    """
    frames = []
    for m in (m for m in measured if m.draws):
        for metric in prepared.metrics:
            values = m.draws[metric.name]
            n_draws = values.shape[1]
            deltas = values - m.baseline[metric.name].mean()
            frame = pd.DataFrame([dict(row.key) for row in m.arm.rows])
            frames.append(
                frame.loc[frame.index.repeat(n_draws)].assign(
                    metric=metric.name,
                    draw=np.tile(np.arange(n_draws, dtype="int32"), len(values)),
                    value=values.ravel(),
                    delta=deltas.ravel(),
                    variance=np.repeat(deltas.var(1, ddof=1), n_draws),
                )
            )
    return stacked(prepared, frames)


def groups_table(prepared: PreparedRun, measured: Sequence[Measured]) -> pd.DataFrame | None:
    """A row per group of the first arm: `n` examples, `baseline/NAME` and `effect/NAME`, each the mean over them.

    `baseline/` is of the un-intervened run (`accuracy`, `preference` and every metric), `effect/` of the average site. Runs
    with other seeds draw other examples of the same groups (wordings). They are more examples and no repeated measurements, so
    runs are pooled over seeds by groups, and not by the spread of a few means.
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
    difference = next((measured.baseline[name] for name in PREFERENCE if name in measured.baseline), None)
    preferred = {} if difference is None else {"preference": difference > 0}
    right = is_right([prepared.tokens[i] for i in measured.examples], measured.top1_baseline.tolist())
    if prepared.spec.settings.root.metrics.span is Span.full:
        right = preferred.get("preference")
    return {**({} if right is None else {"accuracy": right}), **preferred, **measured.baseline}


def effect_of_average_site(measured: Measured, name: str) -> np.ndarray:
    """(n,) per example, the mean effect over all rows of the arm that were intervened on."""
    ran = measured.ran
    return np.nanmean(measured.delta(name)[ran if ran.any() else slice(None)], axis=0)


_MORE = {"groups": groups_table, "draws": draws_table, "controls": controls_table, "site_controls": site_controls}


def cut_up(measured: Sequence[Measured]) -> list[Measured]:
    """Each arm in parts, by which examples its rows have: a row about a middle token has none of an example without one."""
    parts = []
    for m in measured:
        missing = np.isnan(np.array(list(m.values.values()))).any(0)
        if not missing.any():
            parts.append(m)
            continue
        patterns, which = np.unique(missing, axis=0, return_inverse=True)
        for index, pattern in enumerate(patterns):
            rows = np.flatnonzero(which.ravel() == index).tolist()
            parts.append(m.of_rows(rows).at(m.examples[~pattern]))
    return parts


def _impact(prepared: PreparedRun, measured: Measured, all_arms: Sequence[Measured], family: int) -> Iterator[pd.DataFrame]:
    n_parts = sum(m.arm.in_table for m in all_arms)
    for metric in prepared.metrics:
        found = site_statistics(prepared, metric.name, measured.delta(metric.name), measured.groups, measured.ran, family)
        own = prepared.spec.ablation.columns(prepared, measured, all_arms, metric.name)
        frame = _identity_columns(prepared, measured).assign(**own)
        mean, base = measured.values[metric.name].mean(1), measured.baseline[metric.name].mean()
        yield frame.assign(
            metric=metric.name,
            value=mean,
            n=len(measured.examples),
            baseline=base,
            delta=mean - base,
            # Arms of other examples are corrected apart, and for their number.
            p_family=np.minimum(1.0, n_parts * found.family_wise),
            **found.columns(),
        )


def _identity_columns(prepared: PreparedRun, measured: Measured) -> pd.DataFrame:
    root, rows = prepared.spec.settings.root, measured.arm.rows
    frame = pd.DataFrame([dict(row.key) for row in rows])
    described = {column: [getattr(r.described, name) for r in rows] for name, column in COORDINATES.items()}
    return frame.assign(
        run_id=prepared.identity.run_id,
        seed=root.seed,
        condition=prepared.spec.condition,
        model=root.model.name,
        dataset=root.dataset.name,
        **{name: column for name, column in described.items() if name not in frame},
    )


def _per_example(prepared: PreparedRun, measured: Measured) -> pd.DataFrame:
    """Long over rows x examples, rows outermost."""
    rows, n = measured.arm.rows, len(measured.examples)
    examples = [prepared.tokens[i].example for i in measured.examples]
    how = {column: name for name, column in COORDINATES.items() if column in EXAMPLE_HOW}
    keys = pd.DataFrame([{c: getattr(row.described, name) for c, name in how.items()} | {**row.key} for row in rows])
    frame = keys.loc[keys.index.repeat(n)].reset_index(drop=True)
    for column, values in (
        ("example_id", [e.id for e in examples]),
        ("group", [e.group for e in examples]),
        ("template", [e.template for e in examples]),
        ("prediction_baseline", _texts(prepared, measured.top1_baseline)),
    ):
        frame[column] = values * len(rows)
    frame["prediction"] = _texts(prepared, measured.top1.ravel())
    for name, values in measured.values.items():
        frame[name] = values.ravel()
        frame[f"{name}_baseline"] = np.tile(measured.baseline[name], len(rows))
    if measured.texts:
        frame["text"] = measured.texts["text"].ravel()
        frame["text_baseline"] = np.tile(measured.texts["text_baseline"], len(rows))
    return frame.assign(run_id=prepared.identity.run_id, seed=prepared.spec.settings.root.seed)


def _texts(prepared: PreparedRun, ids: Any) -> list[str]:
    tokenizer: Any = prepared.network.model.tokenizer
    distinct = {int(i): tokenizer.decode([int(i)]) for i in np.unique(ids)}
    return [distinct[int(i)] for i in ids]
