"""A finished sweep in the terminal: the grid, what is conserved, what went wrong, where the files are."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tiny_ablation import formats
from tiny_ablation.report.terminal import Screen
from tiny_ablation.run import vocabulary
from tiny_ablation.run.effects import site_name
from tiny_ablation.store.files import read_json
from tiny_ablation.store.schema import TABLES
from tiny_ablation.store.sweepdir import SweepDir
from tiny_ablation.sweep.analysis.robustness import robustness_lines

_NAMED = 12


def show_sweep(path: Path, screen: Screen) -> None:
    """Print what the files of an aggregated sweep say."""
    sweep = SweepDir(path)
    summary, invariants = read_json(sweep.summary), read_json(sweep.cross / "invariants.json")
    primary = (condition.get("primary") for condition in summary["conditions"].values())
    metrics = list(dict.fromkeys(str(name) for name in primary if name))
    units = [f"{name} ({vocabulary.metric_vocabulary(name).unit})" for name in metrics]
    screen.grid("Conditions", f"baseline and mean effect: {', '.join(units)}", list(_grid(summary, metrics)))
    for line in conserved(invariants):
        screen.note(line)
    robust = sweep.cross / "robustness.json"
    for line in robustness_lines(read_json(robust)) if robust.is_file() else []:
        screen.note(line)
    for cell in [*summary["failed"], *summary["missing"]]:
        screen.warn(f"{cell['condition']}, seed {cell['seed']}: {cell['error'] or cell['status']}")
    for text in summary["warnings"]:
        screen.warn(text)
    matrices = [sweep.cross / f"{what}_matrix.parquet" for what in ("head", "layer")]
    files = [sweep.report, *matrices, sweep.summary, sweep.cross / "invariants.json"]
    screen.files(path, [file.relative_to(path).as_posix() for file in files if file.is_file()])
    if summary["complete"]:
        screen.next_command("report", path, "--open")
    else:
        screen.next_command("status", path)


def _grid(summary: Mapping[str, Any], metrics: Sequence[str]) -> Iterator[list[str]]:
    """A line per condition: its cells, and the baseline and mean effect over seeds; the metric where there are several."""
    several = len(metrics) > 1
    level = f"{formats.percent(summary['confidence'])} interval"
    yield ["condition", "done", "accuracy", *(["metric"] * several), "baseline", "mean effect", level, "seeds from to"]
    for name, found in summary["conditions"].items():
        metric, done = found.get("primary"), f"{len(found['seeds'])}/{found['n_planned']}"
        effect = found["metrics"].get(metric, {})
        levels = [found["baseline"].get(what, {}).get("mean") for what in ("accuracy", metric)]
        accuracy, baseline = (formats.plain(level, 2) for level in levels)
        mean = formats.signed(effect.get("mean"), 3)
        interval = formats.interval(effect.get("ci_low"), effect.get("ci_high"), 3)
        ends = [formats.signed(effect.get("seeds", {}).get(end), 3) for end in ("low", "high")]
        spread = " ".join(ends) if effect.get("n_seeds", 0) > 1 else "-"
        yield [name, done, accuracy, *([str(metric or "-")] * several), baseline, mean, interval, spread]


def conserved(invariants: Mapping[str, Any]) -> Iterator[str]:
    """What the conditions share, a paragraph per comparison, with how many random sets would share."""
    for found in invariants["sets"]:
        if len(found["conditions"]) < 2:
            continue
        what = TABLES[found["table"]].nouns[found["n_components"] != 1]
        of = f" of {found['model']}" if found.get("model") else ""
        text = (
            f"{found['size']} of {found['n_components']} {what} {'is' if found['size'] == 1 else 'are'} {invariants['kept']} "
        )
        text += f"by {found['metric']} (k={invariants['k']}, {len(found['conditions'])} conditions{of})"
        members = [site_name(member) for member in found["members"]]
        listed = ", ".join(members[:_NAMED]) + (", ..." if len(members) > _NAMED else "")
        text += f": {listed}." if members else "."
        if found["chance"]:
            first = found["chance"][0]
            p = formats.probability(first["p_value"])
            text += f" Chance alone would give {first['expected']:.2g} (p {p}; null: {first['null']})."
        agreement = found["agreement"]
        if agreement and agreement["kendalls_w"] is not None:
            text += f" The whole rankings agree with Kendall's W {agreement['kendalls_w']:.2f}."
        yield text
