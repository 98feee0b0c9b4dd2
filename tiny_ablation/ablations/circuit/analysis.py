"""How good the circuits of a run are: faithfulness, completeness, minimality, and the same of random circuits.

Everything is on one scale, f = (m - m_empty) / (m_all - m_empty) with m the primary metric: 1 is the whole model, 0 the model
with every head replaced. f is a ratio of means over examples with a bootstrap interval, never a mean of ratios; so are the
areas CPR and CMD, which are sums of such ratios with one denominator. Where the interval of the denominator holds 0 there is no
behaviour of which a share could be told, and everything is missing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from tiny_ablation.ablations.circuit.design import EMPTY, Design, design, set_name
from tiny_ablation.ablations.shared.head_sets import label
from tiny_ablation.config.seeds import generator
from tiny_ablation.run.id_columns import named
from tiny_ablation.run.measure import Measured, shared_examples
from tiny_ablation.run.plan import Analysis
from tiny_ablation.run.prepare import PreparedRun
from tiny_ablation.stats.bootstrap import Ratios, ratio_of_means
from tiny_ablation.stats.clusters import Floats
from tiny_ablation.stats.percentile import percentile_among


@dataclass(frozen=True)
class _Curves:
    """The primary metric of every circuit, on the examples that all arms finished.

    Attributes:
        prepared: the run.
        plan: which circuits.
        values: for each set (n,).
        full: (n,) the un-intervened run.
        groups: (n,) the cluster of each example.
    """

    prepared: PreparedRun
    plan: Design
    values: dict[str, Floats]
    full: Floats
    groups: list[str]

    @cached_property
    def span(self) -> Floats:
        """(n,) what there is to explain."""
        return self.full - self.values[EMPTY]

    def above(self, name: str) -> Floats:
        """(n,) the numerator of f for a set."""
        return self.values[name] - self.values[EMPTY]

    def circuit(self, ranking: str, size: int, role: str) -> Floats:
        """(n,) the numerator of a circuit; the empty one and the whole model need no run."""
        if size in (0, self.plan.n_heads):
            return self.span if (size == 0) == (role == "removed") else np.zeros_like(self.span)
        return self.above(set_name(ranking, size, role))

    def randoms(self, ranking: str, size: int, role: str) -> Floats:
        """(n_random,) f of the random circuits, as many as were drawn; one of them where there is no choice."""
        if size in (0, self.plan.n_heads):
            return np.array([self.point(self.circuit(ranking, size, role))])
        name, found = set_name(ranking, size, role), []
        while f"{name}/random_{len(found)}" in self.values:
            found.append(self.point(self.above(f"{name}/random_{len(found)}")))
        return np.array(found)

    def point(self, above: Floats) -> float:
        """One ratio of means."""
        return float(above.mean() / self.span.mean())

    def ratios(self, above: Any) -> Ratios:
        """Ratios of means with intervals, from the same draws for all; (n_rows, n) numerators."""
        root = self.prepared.spec.settings.root
        draws = generator(root.seed, "bootstrap", "circuit")
        return ratio_of_means(above, self.span, self.groups, root.stats.n_boot, root.stats.confidence, draws)


def analyse(prepared: PreparedRun, measured: Sequence[Measured]) -> Analysis:
    """What the circuits of a run are worth: `circuit` has a row per ranking and fraction, `minimality` one per tested member.

    Nothing where the run was stopped before every arm had a common example.
    """
    curves = _curves(prepared, measured)
    if curves is None:
        return Analysis(summary={"circuit": None})
    rankings = curves.plan.orders
    table = pd.concat([_table(curves, ranking) for ranking in rankings], ignore_index=True)
    members = pd.concat([_minimality(curves, ranking) for ranking in rankings], ignore_index=True)
    for frame in (table, members):
        named(prepared, frame)
    summary = _summary(curves, table, members)
    return Analysis({"circuit": table, "minimality": members}, {"circuit": summary}, _warnings(summary))


def _curves(prepared: PreparedRun, measured: Sequence[Measured]) -> _Curves | None:
    if len(measured) < len(prepared.arms):
        return None
    common = shared_examples(measured)
    if not len(common):
        return None
    name, values = prepared.metrics[0].name, {}
    for m in measured:
        columns = np.searchsorted(m.examples, common)
        values |= {str(row.key["set"]): m.values[name][i, columns] for i, row in enumerate(m.arm.rows)}
    root = prepared.spec.settings.root
    full = measured[0].baseline[name][np.searchsorted(measured[0].examples, common)]
    groups = [prepared.tokens[i].example.group for i in common]
    return _Curves(prepared, design(root.ablation, prepared.network.shape, root.seed), values, full, groups)


def _table(curves: _Curves, ranking: str) -> pd.DataFrame:
    """A row per fraction of one ranking."""
    sizes = [curves.plan.size(fraction) for fraction in curves.plan.fractions]
    frame = pd.DataFrame({
        "ranking": ranking, "fraction": curves.plan.fractions, "size": np.array(sizes, dtype="int32"),
        "heads": [label(curves.plan.circuit(ranking, size)) for size in sizes],
        "metric": curves.prepared.metrics[0].name, "n": np.int32(len(curves.full)),
    })  # fmt: skip
    for role, name, placed in (("kept", "faithfulness", "sufficiency"), ("removed", "left", "necessity")):
        found = curves.ratios(np.array([curves.circuit(ranking, size, role) for size in sizes]))
        frame[name], frame[f"{name}_low"], frame[f"{name}_high"] = found
        null = [curves.randoms(ranking, size, role) for size in sizes]
        frame[f"random_{name}"] = [_mean(others) for others in null]
        sign = 1 if role == "kept" else -1  # what is left should be less than what random circuits leave
        frame[f"{placed}_percentile"] = [
            percentile_among(sign * own, sign * others) if 0 < size < curves.plan.n_heads else np.nan
            for own, others, size in zip(found.ratio, null, sizes, strict=True)
        ]
    return frame


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _areas(curves: _Curves, ranking: str) -> dict[str, Any]:
    """CPR and CMD by the trapezoid rule over the fractions, with intervals and beside random circuits.

    CMD is linear in f as long as no f crosses 1, so its interval takes the signs of 1 - f as they were found.
    """
    x = np.array(curves.plan.fractions)
    sizes = [curves.plan.size(fraction) for fraction in x]
    above = np.array([curves.circuit(ranking, size, "kept") for size in sizes])  # (fractions, n)
    signs = np.sign(1 - above.mean(1) / curves.span.mean())
    areas = {
        "cpr": np.trapezoid(above, x, axis=0),
        "cmd": np.trapezoid(signs[:, None] * (curves.span - above), x, axis=0),
    }
    found = curves.ratios(np.array(list(areas.values())))
    random = _random_areas(curves, ranking, sizes, x)
    return {
        name: {
            "value": float(found.ratio[i]), "ci_low": float(found.low[i]), "ci_high": float(found.high[i]),
            "random_mean": _mean(random[name]), "n_random": len(random[name]),
            "percentile": percentile_among(float(found.ratio[i]), random[name]),
        }
        for i, name in enumerate(areas)
    }  # fmt: skip


def _random_areas(curves: _Curves, ranking: str, sizes: Sequence[int], x: Floats) -> dict[str, Floats]:
    """CPR and CMD of random curves: draw i of every size, starting again where a size has fewer."""
    null = [curves.randoms(ranking, size, "kept") for size in sizes]
    n = curves.plan.n_random if all(len(f) for f in null) else 0
    f = np.array([[of_size[i % len(of_size)] for of_size in null] for i in range(n)]).reshape(n, len(x))
    return {"cpr": np.trapezoid(f, x, axis=1), "cmd": np.trapezoid(np.abs(1 - f), x, axis=1)}


def _minimality(curves: _Curves, ranking: str) -> pd.DataFrame:
    """A row per tested member: f with it minus f without it, beside random heads put into the circuit."""
    members, inflating = curves.plan.tested(ranking), curves.plan.inflating(ranking)
    columns = {"ranking": "str", "layer": "int32", "head": "int32", "size": "int32", "marginal": "float64"}
    if f"{ranking}/changed_0" not in curves.values:
        return pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in columns.items()})
    whole = curves.circuit(ranking, len(members), "kept")
    changed = [curves.above(f"{ranking}/changed_{i}") for i in range(len(members) + len(inflating))]
    found = curves.ratios(np.array([whole - other for other in changed[: len(members)]]))
    null = np.abs([curves.point(other - whole) for other in changed[len(members) :]])
    return pd.DataFrame({
        "ranking": ranking, "layer": np.array([layer for layer, _ in members], dtype="int32"),
        "head": np.array([head for _, head in members], dtype="int32"), "size": np.int32(len(members)),
        "marginal": found.ratio, "marginal_low": found.low, "marginal_high": found.high, "inflated_mean": _mean(null),
        "n_inflated": np.int32(len(null)), "percentile": [percentile_among(abs(m), null) for m in found.ratio],
    })  # fmt: skip


def _summary(curves: _Curves, table: pd.DataFrame, members: pd.DataFrame) -> dict[str, Any]:
    ablation: Any = curves.prepared.spec.settings.root.ablation
    earlier = curves.plan.earlier
    evaluated = {token.example.id for token in curves.prepared.tokens}
    return {
        "metric": curves.prepared.metrics[0].name, "replacement": ablation.replacement, "n_heads": curves.plan.n_heads,
        "ranked_by": {"run_id": earlier.run_id, "metric": earlier.metric, "n_heads": len(earlier.effects)},
        "shared_examples": len(evaluated & earlier.examples), "n_examples": len(curves.full),
        "full": float(curves.full.mean()), "empty": float(curves.values[EMPTY].mean()),
        "defined": bool(table["faithfulness"].notna().all()),
        "rankings": {
            ranking: {
                **_areas(curves, ranking),
                "points": table.loc[table["ranking"] == ranking, _POINT].to_dict("records"),
                "members": members.loc[members["ranking"] == ranking].drop(columns=["run_id", "seed"]).to_dict("records"),
            }
            for ranking in curves.plan.orders
        },
    }  # fmt: skip


_POINT = [
    "fraction", "size", "faithfulness", "faithfulness_low", "faithfulness_high", "random_faithfulness",
    "sufficiency_percentile", "left", "left_low", "left_high", "random_left", "necessity_percentile",
]  # fmt: skip


def _warnings(summary: dict[str, Any]) -> list[str]:
    """What a reader of the circuits must know."""
    out = []
    if not summary["defined"]:
        out.append(
            f"replacing every head changes {summary['metric']} from {summary['full']:.3g} to {summary['empty']:.3g}, and the "
            "interval of that change holds 0, so no share of it can be told and faithfulness is missing"
        )
    if summary["shared_examples"]:
        out.append(
            f"{summary['shared_examples']} of {summary['n_examples']} examples are those that the heads were ranked on, so "
            "circuits look better than they are; rank on one split and evaluate on another (dataset.split)"
        )
    if summary["ranked_by"]["n_heads"] < summary["n_heads"]:
        out.append(
            f"the earlier run measured {summary['ranked_by']['n_heads']} of {summary['n_heads']} heads; the others come last"
        )
    return out
