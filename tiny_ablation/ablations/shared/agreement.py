"""What gradient estimates are worth: how they compare with exact effects, and what choosing by them may have missed."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from tiny_ablation import formats
from tiny_ablation.ablations.shared.screening import site_of
from tiny_ablation.document import Section, Table
from tiny_ablation.run.measure import Measured
from tiny_ablation.run.plan import Analysis, Estimates, Site
from tiny_ablation.run.prepare import PreparedRun
from tiny_ablation.stats.ranks import spearman

# The recall that is stated is that of the ten strongest of all sites (of as many as were chosen, where those are fewer).
N_STRONG = 10


def analyse(prepared: PreparedRun, measured: Sequence[Measured]) -> Analysis:
    """`attribution`: every estimated site with its rank and, where it was measured, its exact effect; the receipt as a note.

    Nothing where nothing was estimated.
    """
    tables = []
    for m in measured:
        if (estimates := m.arm.estimates) is None:
            continue
        exact, sites = _exact(m, estimates), list(estimates.sites)
        top, sample = set(estimates.top), set(estimates.sample)
        rank = np.empty(len(sites), dtype="int32")
        rank[np.argsort(-np.abs(estimates.values), kind="stable")] = np.arange(1, len(sites) + 1)
        columns = {
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
        tables.append(pd.DataFrame(columns))
    if not tables:
        return Analysis()
    first = next(m for m in measured if m.arm.estimates)
    return Analysis({"attribution": pd.concat(tables, ignore_index=True)}, notes={"attribution": receipt(first)})


def sections(found: Mapping[str, Any] | None) -> list[Section]:
    """What was estimated, how estimates follow exact effects, and above all what choosing by them may have missed.

    `found` is `notes.attribution` of `summary.json`; None where nothing was estimated.
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
        [said, str(part["n"]), formats.plain(part["rank_correlation"], 2), f"{part['sign_agreement']:.0%}"]
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
    metric, n_sites, n_measured = estimates.metric, len(estimates.sites), len(estimates.measured)
    base = {
        "metric": metric,
        "how": estimates.how,
        "backward_passes": estimates.passes,
        "pilot_runs": estimates.pilot_runs,
        "estimated": n_sites,
        "measured": n_measured,
    }
    if not exact:
        return {**base, "text": f"{metric} was estimated but is not among metrics.names, so there is nothing to compare"}
    value = dict(zip(estimates.sites, estimates.values.tolist(), strict=True))
    parts, words = {}, {}
    for name, sites in (("random_sample", estimates.sample), ("top", estimates.top)):
        estimated, effects = [value[s] for s in sites], [exact[s] for s in sites]
        rank = spearman(estimated, effects)
        same = float(np.mean(np.sign(estimated) == np.sign(effects)))
        parts[name] = {"n": len(sites), "rank_correlation": None if math.isnan(rank) else rank, "sign_agreement": same}
        words[name] = f"{'no' if math.isnan(rank) else f'{rank:.2f}'} rank correlation and {same:.0%} equal signs"
    found = recall(estimates, exact)
    text = (
        f"effects on {metric} were estimated for {n_sites} sites from gradients and measured for {n_measured}; estimates and "
        f"exact effects have {words['random_sample']} on {parts['random_sample']['n']} random sites, {words['top']} on the "
        f"{parts['top']['n']} strongest estimates; {found['text']}"
    )
    return {**base, **parts, "recall": found, "text": text}


def recall(estimates: Estimates, exact: dict[Site, float]) -> dict[str, Any]:
    """The share of the strongest sites that the chosen ones hold, estimated from random sites that were not chosen.

    Each of these stands for as many sites as were left out for each one sampled (Horvitz & Thompson 1952). Walking down the
    measured effects until `of` sites are passed, `recall` is the share of chosen ones among them; `text` says it in words.
    """
    top = set(estimates.top)
    rest = [site for site in estimates.sample if site not in top]
    n_rest, of = len(estimates.sites) - len(top), min(N_STRONG, len(top))
    out = {"of": of, "rest": n_rest, "rest_sampled": len(rest), "rest_strong": 0}
    if n_rest and not rest:
        text = "the random sample holds no site outside the strongest, so recall cannot be estimated"
        return {**out, "threshold": None, "recall": None, "missed_at_most": None, "text": text}
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
    doubt = "" if len(rest) == n_rest else ", as a rule too high"
    text = (
        f"with 95 % confidence at most {at_most} of the {n_rest} sites that were not chosen are as strong as the {of} "
        f"strongest ({strong} of {len(rest)} random ones are); estimated recall of these: {found / of:.0%}{doubt}"
    )
    return {**out, "rest_strong": strong, "threshold": threshold, "recall": found / of, "missed_at_most": at_most, "text": text}


def _upper_share(hits: int, n: int) -> float:
    """The one-sided upper bound of a share at 95 % confidence (Clopper & Pearson 1934)."""
    from scipy.stats import beta

    return 1.0 if hits == n else float(beta.ppf(0.95, hits + 1, n - hits))


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
