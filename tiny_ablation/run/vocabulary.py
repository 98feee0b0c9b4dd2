"""The words for metrics and interventions, in one place for the terminal, the figures and the page."""

from typing import NamedTuple

from tiny_ablation.metrics import registry
from tiny_ablation.store.schema import TABLES


class MetricVocabulary(NamedTuple):
    """How to speak of one metric."""

    unit: str  # the unit of a value and of a change
    meaning: str  # what one example's value is
    less: str = ""  # what a change below zero says about the model; empty where it says nothing more
    more: str = ""  # what a change above zero says


_RECOVERED = MetricVocabulary("fraction", "share of the advantage brought back", "", "recovered")

# What a file of a run or a sweep holds.
FILES = {
    **{f"metrics/{name}.parquet": "every effect with its interval" for name in TABLES},
    "report.html": "everything on one page",
    "metrics/summary.json": "baseline, mean effects, strongest sites",
    "metrics/per_example.parquet": "every example behind every effect",
    "artifacts/cross_condition/head_matrix.parquet": "every effect of every run, with its condition",
    "artifacts/cross_condition/layer_matrix.parquet": "every effect of every run, with its condition",
    "artifacts/cross_condition/summary.json": "per condition: metrics over seeds",
    "artifacts/cross_condition/invariants.json": "what the conditions share, and what chance would give",
    "artifacts/head_map.html": "head map",
    "artifacts/head_map.png": "head map, for print",
    "artifacts/feature_panel.html": "every feature: where it is active, what it promotes, what it does",
    "sae": "the autoencoder, in SAELens' format",
}

_ACTIONS = {
    "zero": "setting {it} to zero",
    "mean": "replacing {it} by the mean",
    "resample": "replacing {it} by another example's value",
    "patch": "patching {it} from the paired prompt",
    "noise": "adding noise to {it}",
    "splice": "putting the autoencoder's reconstruction in the place of {it}",
    "add": "adding {it}",
}


def metric_vocabulary(metric: str) -> MetricVocabulary:
    """The words for `metric`; one of another version, or of a plug-in that is not here, is spoken of in its own units."""
    if metric == "recovered":  # a share of `metrics.primary`, and none by itself
        return _RECOVERED
    if metric not in registry.metric_names():
        return MetricVocabulary(f"units of {metric}", metric)
    found = registry.metric(metric)
    return MetricVocabulary(found.unit, found.meaning, found.less, found.more)


def change_label(metric: str) -> str:
    """The label of an axis that shows effects."""
    return f"change in {metric} ({metric_vocabulary(metric).unit})"


def signs(metric: str) -> str:
    """What the two colours say, in a sentence."""
    said = metric_vocabulary(metric)
    red = f"below the baseline, {said.less}" if said.less else "below the baseline"
    blue = f"above it, {said.more}" if said.more else "above it"
    return f"Red: {red}; blue: {blue}."


def action(replacement: str, scale: float | None, it: str) -> str:
    """What was done to `it`, such as `setting L3H2 to zero`."""
    if replacement in ("zero", "scale") and scale is not None:
        return f"setting {it} to zero" if scale == 0.0 else f"scaling {it} by {scale:g}"
    return _ACTIONS.get(replacement, "intervening on {it}").replace("{it}", it)


def procedure(fdr: str) -> str:
    """What q-values hold down and after whom, by the value of `stats.fdr`."""
    return {
        "bh": "false discovery rate, Benjamini & Hochberg 1995",
        "by": "false discovery rate under any dependence, Benjamini & Yekutieli 2001",
        "maxt": "chance of any false discovery, Westfall & Young 1993",
    }[fdr]


def noun(index: tuple[str, ...], count: int) -> str:
    """What a row of the table is about: `attention head`, `attention heads`, ..."""
    site = tuple(name for name in index if name not in ("scale", "direction"))
    found = next((table.nouns for table in TABLES.values() if table.site == site), ("site", "sites"))
    return found[count != 1]
