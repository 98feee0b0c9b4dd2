"""What gradient estimates are worth: how they compare with exact effects, and what choosing by them may have missed."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from tiny_ablation import formats
from tiny_ablation.ablations.shared.screening import Estimates, Site, site_of
from tiny_ablation.document import Section, Table
from tiny_ablation.run.measure import Measured
from tiny_ablation.run.plan import Analysis
from tiny_ablation.run.prepare import PreparedRun
from tiny_ablation.stats.ranks import spearman

# The recall that is stated is that of the ten strongest of all sites (of as many as were chosen, where those are fewer).
N_STRONG = 10


def analyse(prepared: PreparedRun, measured: Sequence[Measured]) -> Analysis:
    """`attribution`: a table of all estimates, and the receipt as a note; nothing where nothing was estimated."""
    estimated = [m for m in measured if m.arm.estimates]
    if not estimated:
        return Analysis()
    table = pd.concat([_table(prepared, m) for m in estimated], ignore_index=True)
    return Analysis({"attribution": table}, notes={"attribution": receipt(estimated[0])})


def sections(found: Mapping[str, Any] | None) -> list[Section]:
    """What was estimated, how estimates follow exact effects, and above all what choosing by them may have missed.

    Args:
        found: `notes.attribution` of `summary.json`; None where nothing was estimated.
    """
    if found is None:
        return []
    passes = f"{found['backward_passes']} backward {'pass' if found['backward_passes'] == 1 else 'passes'} an example"
    text = [
        f"Estimated: {found['metric']} of {found['estimated']} sites from gradients ({found['how']}, {passes}); "
        f"{found['measured']} were measured.",
        found["text"] if "recall" not in found else found["recall"]["text"],
        "effects in the tables are measured, estimates stand in metrics/attribution.parquet only",
    ]
    rows = [
        [said, str(part["n"]), formats.plain(formats.number(part["rank_correlation"]), 2), f"{part['sign_agreement']:.0%}"]
        for said, part in (("random sites", found.get("random_sample")), ("strongest estimates", found.get("top")))
        if part
    ]
    head = ["estimate against exact effect", "sites", "rank correlation", "equal signs"]
    tables = [Table("How estimates agree with exact effects.", head, rows)] if rows else []
    return [Section("Estimates", text, tables)]


def receipt(measured: Measured) -> dict[str, Any]:
    """How estimates follow exact effects: on the random sample, on their own top, and what they may have missed."""
    estimates = measured.arm.estimates
    assert estimates is not None
    exact = _exact(measured, estimates)
    base = {
        "metric": estimates.metric,
        "how": estimates.how,
        "backward_passes": estimates.passes,
        "pilot_runs": estimates.pilot_runs,
        "estimated": len(estimates.sites),
        "measured": len(estimates.measured),
    }
    if not exact:
        return {
            **base,
            "text": f"{estimates.metric} was estimated but is not among metrics.names, so there is nothing to compare",
        }
    value = dict(zip(estimates.sites, estimates.values.tolist(), strict=True))
    parts = {
        name: _agreement([value[s] for s in sites], [exact[s] for s in sites])
        for name, sites in (("random_sample", estimates.sample), ("top", estimates.top))
    }
    found = recall(estimates, exact)
    found["text"] = _recall_text(found)
    return {**base, **parts, "recall": found, "text": _text(base, parts, found)}


def recall(estimates: Estimates, exact: dict[Site, float]) -> dict[str, Any]:
    """The share of the strongest sites that the chosen ones hold, estimated from random sites that were not chosen.

    Each of these stands for as many sites as were left out for each one sampled (Horvitz & Thompson 1952). Walking down the
    measured effects until `of` sites are passed, `recall` is the share of chosen ones among them.
    """
    top = set(estimates.top)
    rest = [site for site in estimates.sample if site not in top]
    n_rest, of = len(estimates.sites) - len(top), min(N_STRONG, len(top))
    out = {"of": of, "rest": n_rest, "rest_sampled": len(rest), "rest_strong": 0}
    if n_rest and not rest:
        return {**out, "threshold": None, "recall": None, "missed_at_most": None}
    weight = n_rest / max(1, len(rest))
    passed = found = threshold = 0.0
    for site in sorted({*top, *rest}, key=lambda site: (-abs(exact[site]), site not in top, site)):
        if passed >= of:
            break
        part = min(1.0 if site in top else weight, of - passed)
        passed, threshold = passed + part, abs(exact[site])
        found += part if site in top else 0.0
    strong = sum(abs(exact[site]) >= threshold for site in rest)
    at_most = math.floor(_upper_share(strong, len(rest)) * n_rest) if rest else 0
    return {**out, "rest_strong": strong, "threshold": threshold, "recall": found / of, "missed_at_most": at_most}


def _upper_share(hits: int, n: int, level: float = 0.95) -> float:
    """The one-sided upper bound of a share (Clopper & Pearson 1934)."""
    from scipy.stats import beta

    return 1.0 if hits == n else float(beta.ppf(level, hits + 1, n - hits))


def _agreement(estimated: Sequence[float], exact: Sequence[float]) -> dict[str, Any]:
    same = [np.sign(a) == np.sign(b) for a, b in zip(estimated, exact, strict=True)]
    rank = spearman(estimated, exact)
    return {"n": len(same), "rank_correlation": None if math.isnan(rank) else rank, "sign_agreement": float(np.mean(same))}


def _exact(measured: Measured, estimates: Estimates) -> dict[Site, float]:
    """The exact mean effect of each measured site under the replacement that was estimated."""
    if estimates.metric not in measured.values:
        return {}
    effect = measured.mean_delta(estimates.metric)
    return {
        site_of(row): float(effect[i])
        for i, row in enumerate(measured.arm.rows)
        if row.intervention and row.intervention.edits[0].replacement is estimates.replacement
    }


def _text(base: dict[str, Any], parts: dict[str, Any], found: dict[str, Any]) -> str:
    def words(part: dict[str, Any]) -> str:
        rank = part["rank_correlation"]
        return f"{'no' if rank is None else f'{rank:.2f}'} rank correlation and {part['sign_agreement']:.0%} equal signs"

    return (
        f"effects on {base['metric']} were estimated for {base['estimated']} sites from gradients and measured for "
        f"{base['measured']}; estimates and exact effects have {words(parts['random_sample'])} on "
        f"{parts['random_sample']['n']} random sites, {words(parts['top'])} on the {parts['top']['n']} strongest estimates; "
        f"{found['text']}"
    )


def _recall_text(found: dict[str, Any]) -> str:
    if found["recall"] is None:
        return "the random sample holds no site outside the strongest, so recall cannot be estimated"
    doubt = "" if found["rest_sampled"] == found["rest"] else ", as a rule too high"
    return (
        f"with 95 % confidence at most {found['missed_at_most']} of the {found['rest']} sites that were not chosen are as "
        f"strong as the {found['of']} strongest ({found['rest_strong']} of {found['rest_sampled']} random ones are); estimated "
        f"recall of these: {found['recall']:.0%}{doubt}"
    )


def _table(prepared: PreparedRun, measured: Measured) -> pd.DataFrame:
    """Every estimated site with its rank and, where it was measured, its exact effect."""
    estimates = measured.arm.estimates
    assert estimates is not None
    exact = _exact(measured, estimates)
    order = np.argsort(-np.abs(estimates.values), kind="stable")
    rank = np.empty(len(order), dtype="int32")
    rank[order] = np.arange(1, len(order) + 1)
    sites = list(estimates.sites)
    top, sample = set(estimates.top), set(estimates.sample)
    return pd.DataFrame(
        {
            "run_id": prepared.identity.run_id,
            "seed": prepared.spec.settings.root.seed,
            "layer": np.array([layer for layer, _ in sites], dtype="int32"),
            "unit": np.array([unit for _, unit in sites], dtype="int32"),
            "component": estimates.component,
            "metric": estimates.metric,
            "estimate": estimates.values,
            "rank": rank,
            "exact": [exact.get(site, math.nan) for site in sites],
            "in_top": [site in top for site in sites],
            "in_sample": [site in sample for site in sites],
            "also": [site in estimates.also for site in sites],
        }
    )
