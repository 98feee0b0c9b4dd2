"""How good the circuits of a run are: faithfulness, completeness, minimality, and the same of random circuits.

Everything is on one scale, f = (m - m_empty) / (m_all - m_empty) with m the primary metric: 1 is the whole model, 0 the model
with every head replaced. f is a ratio of means over examples with Fieller's interval, never a mean of ratios; the intervals of
all sizes of a ranking hold at once. A circuit *carries* the behaviour where its interval lies within `MARGIN` of 1: that it is
equivalent to the whole model is what is tested, so that f far above 1 counts against it.

The area CPR is a sum of such ratios with one denominator. CMD is an area of absolute values, which noise makes larger: its
value takes signs and sizes from different halves of the groups, its interval is what the intervals of f allow. Rankings are
taken as given: intervals do not say how a ranking from other examples would do.
"""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from tiny_ablation.ablations.circuit.agreement import agreement
from tiny_ablation.ablations.circuit.curves import Curves, areas, curves_of, mean_of
from tiny_ablation.ablations.circuit.design import EMPTY, carries
from tiny_ablation.ablations.shared.head_sets import label
from tiny_ablation.errors import ResultsError
from tiny_ablation.run.id_columns import named
from tiny_ablation.run.measure import Measured
from tiny_ablation.run.plan import Analysis, Arm
from tiny_ablation.run.prepare import PreparedRun
from tiny_ablation.stats.clusters import Floats, cluster_sums
from tiny_ablation.stats.fdr import LEVEL, first_step, q_values
from tiny_ablation.stats.means import cluster_means
from tiny_ablation.stats.percentile import percentile_among
from tiny_ablation.stats.ratios import Shape
from tiny_ablation.store.files import read_table
from tiny_ablation.store.reader import Run

STANDS_OUT = 95.0
"""A member is needed where it raises f by more than this share of random heads, in percent."""
# By role: f of a circuit, or of the model without it, and where that stands among random circuits.
_COLUMNS = {"kept": ("faithfulness", "sufficiency"), "removed": ("left", "necessity")}


def analyse(prepared: PreparedRun, measured: Sequence[Measured]) -> Analysis:
    """What the circuits of a run are worth: `circuit` has a row per ranking and fraction, `minimality` one per tested member.

    Nothing where the run was stopped before every arm had a common example.
    """
    curves = curves_of(prepared, measured)
    if curves is None:
        return Analysis(summary={"circuit": None})
    rankings = curves.plan.orders
    table = pd.concat([circuit_table(curves, ranking) for ranking in rankings], ignore_index=True)
    members = pd.concat([member_table(curves, ranking) for ranking in rankings], ignore_index=True)
    for frame in (table, members):
        named(prepared, frame)
    others = _named_circuits(curves, measured[0].arm)
    summary = _summary(curves, table, members) | {"named": others.to_dict("records")}
    summary["published"] = agreement(curves, measured[0].arm, others)
    tables = {"circuit": table, "minimality": members}
    if len(others):
        tables["named_circuits"] = named(prepared, others)
    return Analysis(tables, {"circuit": summary}, _warnings(summary))


def circuit_table(curves: Curves, ranking: str) -> pd.DataFrame:
    """A row per fraction of one ranking."""
    sizes = [curves.plan.size(fraction) for fraction in curves.plan.fractions]
    frame = pd.DataFrame(
        {
            "ranking": ranking,
            "fraction": curves.plan.fractions,
            "size": np.array(sizes, dtype="int32"),
            "heads": [label(curves.plan.circuit(ranking, size)) for size in sizes],
            "metric": curves.prepared.metrics[0].name,
            "n": np.int32(len(curves.full)),
        }
    )
    for role, (name, placed) in _COLUMNS.items():
        found = curves.ratios(np.array([curves.circuit(ranking, size, role) for size in sizes]), at_once=True)
        null = [curves.randoms(ranking, size, role) for size in sizes]
        frame = frame.assign(**found.named(name))
        frame[f"random_{name}"] = [mean_of(others) for others in null]
        frame[f"{placed}_percentile"] = _percentiles(curves, role, sizes, found.ratio, null)
    return frame.assign(carries=carries(frame["faithfulness_low"], frame["faithfulness_high"]))


def _percentiles(curves: Curves, role: str, sizes: Sequence[int], own: Floats, null: Sequence[Floats]) -> list[float]:
    """Where each circuit stands among its random ones; NaN where there is no choice of circuits of its size."""
    sign = 1 if role == "kept" else -1  # what is left should be less than what random circuits leave
    return [
        percentile_among(sign * f, sign * others) if 0 < size < curves.plan.n_heads else np.nan
        for size, f, others in zip(sizes, own, null, strict=True)
    ]


def _named_circuits(curves: Curves, arm: Arm) -> pd.DataFrame:
    """The circuits that are no beginning of a ranking, the smallest that was searched and a published one: a row for each.

    The columns are those of the table `circuit`; `circuit` is the name, `searched_f` what the search saw.
    """
    kept = [row for row in arm.rows if str(row.key["set"]).endswith("/kept") and "/top_" not in str(row.key["set"])]
    names = [str(row.key["set"]).removesuffix("/kept") for row in kept]
    searched = [arm.notes.get("minimal", {}).get(name.removesuffix("/minimal")) for name in names]
    frame = pd.DataFrame(
        {
            "circuit": names,
            "size": np.array([row.key["size"] for row in kept], dtype="int32"),
            "heads": [row.sites for row in kept],
            "metric": curves.prepared.metrics[0].name,
            "n": np.int32(len(curves.full)),
            "searched_f": [np.nan if found is None or found["f"] is None else float(found["f"]) for found in searched],
        }
    )
    if frame.empty:
        return frame
    for role, (name, placed) in _COLUMNS.items():
        found = curves.ratios(np.array([curves.above(f"{each}/{role}") for each in names]), at_once=True)
        null = [curves.randoms_of(f"{each}/{role}") for each in names]
        frame = frame.assign(
            **{name: found.ratio, f"random_{name}": [mean_of(others) for others in null]},
            **found.columns(*(f"{name}_{end}" for end in ("low", "high", "shape"))),
            **{f"{placed}_percentile": _percentiles(curves, role, frame["size"].tolist(), found.ratio, null)},
        )
    return frame.assign(carries=carries(frame["faithfulness_low"], frame["faithfulness_high"]))


def member_table(curves: Curves, ranking: str) -> pd.DataFrame:
    """A row per tested member: f with it minus f without it, tested against 0 over all members, beside random heads.

    `p_value` is of the numerator's mean; `percentile` is the share of random heads, put into the circuit, that raise f by less;
    `needed` says that the member raises f, with q at most .05 over the members, and by more than `STANDS_OUT` percent of the
    random heads.
    """
    members, inflating = curves.plan.tested(ranking), curves.plan.inflating(ranking)
    if f"{ranking}/changed_0" not in curves.values:
        dtypes = {"ranking": "str", "layer": "int32", "head": "int32", "size": "int32", "marginal": "float64"}
        return pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in dtypes.items()})
    whole = curves.circuit(ranking, len(members), "kept")
    changed = [curves.above(f"{ranking}/changed_{i}") for i in range(len(members) + len(inflating))]
    losses = np.array([whole - other for other in changed[: len(members)]])
    found, stats = curves.ratios(losses), curves.prepared.spec.settings.root.stats
    p = cluster_means(
        *cluster_sums(losses, curves.groups),
        rng=curves.draws("members"),
        n_boot=stats.n_boot,
        n_draws=stats.n_perm,
        step=first_step(len(losses), LEVEL, stats.fdr.value),
    ).p
    q = q_values(p, stats.fdr.value)
    null = np.array([curves.point(other - whole) for other in changed[len(members) :]])
    percentile = np.array([percentile_among(m, null) for m in found.ratio])
    return pd.DataFrame(
        {
            "ranking": ranking,
            "layer": np.array([layer for layer, _ in members], dtype="int32"),
            "head": np.array([head for _, head in members], dtype="int32"),
            "size": np.int32(len(members)),
            "marginal": found.ratio,
            **found.columns("marginal_low", "marginal_high", "marginal_shape"),
            "p_value": p,
            "q_value": q,
            "inflated_mean": mean_of(null),
            "n_inflated": np.int32(len(null)),
            "percentile": percentile,
            "needed": (found.ratio > 0) & (q <= LEVEL) & ~(percentile < STANDS_OUT),
        }
    )


def _summary(curves: Curves, table: pd.DataFrame, members: pd.DataFrame) -> dict[str, Any]:
    ablation: Any = curves.prepared.spec.settings.root.ablation
    earlier = curves.plan.earlier
    evaluated = {token.example.id for token in curves.prepared.tokens}
    ranked_by = {"run_id": earlier.run_id, "metric": earlier.metric, "n_heads": len(earlier.effects), "unused": earlier.unused}
    rankings = {}
    for ranking in curves.plan.orders:
        own = table.loc[table["ranking"] == ranking]
        tested = members.loc[members["ranking"] == ranking].drop(columns=["run_id", "seed"])
        rankings[ranking] = {
            **areas(curves, ranking, own),
            "points": own[_POINT].to_dict("records"),
            "members": tested.to_dict("records"),
        }
    return {
        "metric": curves.prepared.metrics[0].name,
        "replacement": ablation.replacement,
        "n_heads": curves.plan.n_heads,
        "ranked_by": ranked_by,
        "shared_examples": len(evaluated & earlier.examples),
        "n_examples": len(curves.full),
        "full": float(curves.full.mean()),
        "empty": float(curves.values[EMPTY].mean()),
        "defined": bool((table["faithfulness_shape"] == Shape.interval).all()),
        "rankings": rankings,
    }


_POINT = [
    "fraction",
    "size",
    "carries",
    "faithfulness",
    "faithfulness_low",
    "faithfulness_high",
    "random_faithfulness",
    "sufficiency_percentile",
    "left",
    "left_low",
    "left_high",
    "random_left",
    "necessity_percentile",
]


def _warnings(summary: dict[str, Any]) -> list[str]:
    """What a reader of the circuits must know."""
    out = []
    if not summary["defined"]:
        out.append(
            f"replacing every head changes {summary['metric']} from {summary['full']:.3g} to {summary['empty']:.3g}, and the "
            "interval of that change includes 0, so shares of it are unbounded and no circuit can be said to carry it"
        )
    if summary["shared_examples"]:
        out.append(
            f"{summary['shared_examples']} of {summary['n_examples']} examples are those that the heads were ranked on, so "
            "circuits look better than they are; rank on one split and evaluate on another (dataset.split)"
        )
    if summary["ranked_by"]["n_heads"] < summary["n_heads"]:
        out.append(f"the ranking has {summary['ranked_by']['n_heads']} of {summary['n_heads']} heads; the others come last")
    if unused := summary["ranked_by"]["unused"]:
        out.append(f"the ranking scores {unused} MLPs as well, which are never replaced here, so circuits are of heads alone")
    return out


def heads_of(run: Run, ranking: str, size: int | None) -> list[tuple[int, int]]:
    """The (layer, head) in a circuit of a finished run, by the primary metric; `size` None is the fewest that carry it.

    Raises:
        ResultsError: there is no such circuit.
    """
    found = read_table(run.dir.metrics / "circuit.parquet")
    rows = found.loc[(found["ranking"] == ranking) & (found["metric"] == run.summary["primary"]), :].sort_values("size")
    mine = rows.loc[rows["carries"].astype(bool) if size is None else rows["size"] == size, :]
    if mine.empty:
        what = "no circuit carries the behaviour" if size is None else f"there is no circuit of {size} heads"
        sizes = sorted({*rows["size"].tolist()})
        raise ResultsError(f"{run.dir.path}: {what}; choose --size from {', '.join(map(str, sizes))}")
    return [(int(layer), int(head)) for layer, head in re.findall(r"L(\d+)H(\d+)", mine["heads"].iloc[0])]
