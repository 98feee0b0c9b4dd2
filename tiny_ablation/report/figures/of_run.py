"""The figures of a run: from its ablation, its impact table, its verification and its profile."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tiny_ablation import formats
from tiny_ablation.ablations.registry import find_ablation
from tiny_ablation.document import Figure
from tiny_ablation.document.figures import Bar, Bars, Line, LinePanel, Lines, Points
from tiny_ablation.report.figures import feature_map, feature_panel, of_templates
from tiny_ablation.report.figures.drawing import write
from tiny_ablation.report.figures.feature_data import has_features
from tiny_ablation.report.figures.head_map import scale_maps
from tiny_ablation.run import effects, vocabulary
from tiny_ablation.run.result import Result
from tiny_ablation.store.files import read_json
from tiny_ablation.store.rundir import RunDir
from tiny_ablation.store.schema import largest_first

DRAWING = "figures and report"  # the stage that draws is not over when its figures are drawn
_STRONGEST, _SCALED = 20, 6  # sites in the forest plot; heads that are drawn at every scale
_HEADS = ("layer", "head", "scale")


def run_figures(result: Result) -> Iterator[Figure]:
    """Every figure that suits a run, in the order of its page.

    Raises:
        ResultsError: the table has no effect on the primary metric.
    """
    signs, metric = vocabulary.signs(result.metric), result.metric
    ablation = find_ablation(result.summary["kind"])
    if result.index == _HEADS and not result.several_directions:
        yield Figure(
            "head_map",
            "Every head",
            "Layers down, heads across. A full cell is an effect whose interval excludes 0; a pale one with a dot is one whose "
            f"interval includes 0, which this run cannot tell from none. All panels share their colours. {signs}",
            scale_maps(result),
        )
    yield from ablation.figures(result)
    if has_features(result):
        yield Figure(
            "feature_map",
            "The map of features",
            "Decoder directions on a plane, near each other where they point alike. Grey is every feature of the autoencoder, "
            "larger where it is active more often; colour is the change that switching it off makes, an open circle one that "
            f"cannot be told from none. {signs}",
            feature_map.collect(result),
        )
    if result.index == ("layer", "granularity") and len(set(result.impact["layer"])) > 1:
        yield Figure(
            "layer_profile",
            "From the first layer to the last",
            "A panel for each kind of activation, a line for each direction; the band is the interval. Open marks are "
            "unresolved.",
            layer_profile(result),
        )
    if not ablation.has_circuits:  # circuits hold each other, so that none is the strongest
        yield Figure(
            "forest",
            "The strongest, with intervals",
            "Marks are mean changes over examples, bars their intervals. Open grey marks are unresolved: the interval "
            f"includes 0. {signs}",
            forest(result),
        )
    if result.index == _HEADS and not result.several_directions and len(set(result.impact["scale"])) > 2:
        yield Figure(
            "scales",
            "How the effect grows",
            "The strongest heads at every factor they were scaled by: 1 leaves a head as it is, 0 removes it.",
            scales(result),
        )
    yield from of_templates.figures(result)
    if len(_verified(result)) > 1:
        yield Figure(
            "verify",
            "Computed again",
            "Effects in this run against the same effects from the plain reference: on the line they are equal.",
            verification(result, metric),
        )
    if result.run.profile.is_file():
        yield Figure(
            "timeline",
            "Where the time went",
            "The stages of the run, one after the other: time, most memory, processor cores in use. tokens/s are token "
            "positions that went into forward passes; shared prefixes make them fewer than interventions x prompts.",
            timeline(result),
        )


def write_figures(run_dir: Path, impact: pd.DataFrame, summary: Mapping[str, Any]) -> list[Figure]:
    """The figures of a run's page, each drawn into `artifacts/`; equal files give equal bytes.

    Raises:
        ResultsError: the table has no effect on the primary metric, or a file cannot be written.
    """
    result = Result(RunDir(run_dir), impact, summary)
    figures = list(run_figures(result))
    for figure in figures:
        write(figure, result.run.artifacts)
    if has_features(result):
        feature_panel.write(result, result.run.artifacts)
    return figures


def forest(result: Result) -> Bars:
    """The strongest sites with their intervals, at the scale farthest from 1, so that a site stands in it once."""
    scale = effects.scales(result.rows)[0]
    found = effects.at_scale(result.rows, scale)
    shown = largest_first(found).head(_STRONGEST)
    places, template = formats.decimals(shown["delta"]), effects.hover_template(result.percent)
    bars = []
    for row in shown.to_dict("records"):
        change, bounds, *_ = texts = effects.hover_numbers(row, places)
        hover = [effects.label(row, result.named, sentence=True), *template.format(*texts).split("\n")]
        label, ends = effects.label(row, result.named), (row["ci_low"], row["ci_high"])
        bars.append(Bar(label, *ends, f"{change} {bounds}", hover, row["delta"], row["resolved"]))
    many = f"{len(shown)} strongest of {len(found)}" if len(shown) < len(found) else f"all {len(found)}"
    at = "" if scale is None else f" at scale {scale:g}"
    return Bars(
        name=f"forest-{result.metric}",
        kind="Forest plot",
        title=result.title,
        note=f"{many} {vocabulary.noun(result.index, len(found))}{at}; {effects.examples(shown)}; bars are {result.percent} "
        "intervals",
        x_title=vocabulary.change_label(result.metric),
        bars=bars,
        key="filled: interval excludes 0; open: interval includes 0, unresolved",
    )


def layer_profile(result: Result) -> Lines:
    """Effects by layer: a panel per granularity, a line per direction, the intervals as bands."""
    panels = [
        LinePanel(str(name), [_line(str(of), same, "layer") for of, same in part.groupby("direction", sort=False)])
        for name, part in result.rows.groupby("granularity", sort=False)
    ]
    return Lines(
        name=f"layer-profile-{result.metric}",
        kind="Layer profile",
        title=result.title,
        note=f"{effects.examples(result.rows)}; bands are {result.percent} intervals; open marks are unresolved",
        x_title="layer",
        y_title=vocabulary.change_label(result.metric),
        panels=panels,
        legend="direction",
        interval=f"{result.percent} interval",
    )


def _line(name: str, rows: pd.DataFrame, x: str) -> Line:
    rows = rows.sort_values(x, kind="stable")
    places, y, low, high = (rows[column].to_numpy(dtype=float) for column in (x, "delta", "ci_low", "ci_high"))
    return Line(name, places, y, low, high)


def scales(result: Result) -> Lines:
    """The effect of the strongest heads at every factor, a panel each; 1 leaves the head as it is."""
    rows = result.rows
    whole = effects.where(result.impact, result.impact["metric"] == result.metric)
    strongest = largest_first(effects.at_scale(rows, effects.scales(rows)[0])).head(_SCALED)
    panels = []
    for row in strongest.to_dict("records"):
        mine = effects.where(whole, (whole["layer"] == row["layer"]) & (whole["head"] == row["head"]))
        panels.append(LinePanel(effects.label(row, result.index), [_line("change", mine, "scale")]))
    return Lines(
        name=f"scales-{result.metric}",
        kind="Effect by scale",
        title=result.title,
        note=f"the {len(panels)} strongest heads; {effects.examples(rows)}; bands are {result.percent} "
        "intervals; scale 1 leaves a head as it is, 0 removes it",
        x_title="scale",
        y_title=vocabulary.change_label(result.metric),
        panels=panels,
        interval=f"{result.percent} interval",
        ticks=tuple(sorted({float(scale) for scale in np.unique(whole["scale"])})),
    )


def _verified(result: Result) -> list[dict[str, Any]]:
    """The sites that were computed again."""
    found = read_json(result.run.verify).get("sites", ()) if result.run.verify.is_file() else ()
    return [site for site in found if site.get("effect_verify") is not None]


def verification(result: Result, metric: str) -> Points:
    """Effects in the run against the same effects computed again by the plain reference."""
    found, sites = read_json(result.run.verify), _verified(result)
    return Points(
        name=f"verify-{metric}",
        kind="Verification",
        title=f"{result.title}, computed again",
        note=f"{len(sites)} sites on {found['n_examples']} examples; verdict: {found['verdict']}; largest difference of any "
        f"value {found['max_abs_diff']:.1e}; on the line both are equal",
        x_title=f"{found['device_verify']}: {vocabulary.change_label(metric)}",
        y_title=f"{found['device_main']}: {vocabulary.change_label(metric)}",
        x=np.array([site["effect_verify"] for site in sites]),
        y=np.array([site["effect_main"] for site in sites]),
        labels=[str(site["site"]) for site in sites],
        diagonal=True,
    )


def timeline(result: Result) -> Bars:
    """Where the time went: the stages of `metrics/profile.json`, with their memory."""
    stages = read_json(result.run.profile)["stages"]
    bars, start = [], 0.0
    for name, entry in stages.items():
        if name == DRAWING:
            continue
        seconds = entry["wall_s"]
        parts = [f"{seconds:.1f} s", f"{entry.get('rss_peak_bytes', entry['rss_bytes']) / 2**30:.2f} GiB"]
        if seconds > 0.05:
            parts.append(f"{entry['cpu_s'] / seconds:.1f} cores")
        if entry.get("tokens"):
            parts.append(f"{entry['tokens_per_s']:,.0f} tokens/s")
        if entry.get("gpu_bytes"):
            parts.append(f"{entry['gpu_bytes'] / 2**30:.2f} GiB on the GPU")
        if watts := entry.get("gpu_watts") or entry.get("watts"):
            parts.append(f"{watts:.0f} W")
        said = ", ".join(parts)
        bars.append(Bar(name, start, start + seconds, said, [name, said]))
        start += seconds
    rate = stages.get("measure", {}).get("prompt_tokens_per_s")
    note = f"{start:.1f} s in all before the figures were drawn"
    note += f"; measured {rate:,.0f} tokens of interventions x prompts a second" if rate else ""
    title, axis = f"{result.title}: time", "seconds since the start"
    return Bars(name="timeline", kind="Timeline", title=title, note=note, x_title=axis, bars=bars)
