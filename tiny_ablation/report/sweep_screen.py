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
    """Print what the files of an aggregated sweep say.

    Args:
        path: the sweep's directory, after `aggregate_sweep`.
        screen: where to.
    """
    sweep = SweepDir(path)
    summary, invariants = read_json(sweep.summary), read_json(sweep.cross / "invariants.json")
    metrics = _metrics(summary)
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
    files = [
        sweep.report,
        sweep.cross / "head_matrix.parquet",
        sweep.cross / "layer_matrix.parquet",
        sweep.summary,
        sweep.cross / "invariants.json",
    ]
    screen.files(path, [file.relative_to(path).as_posix() for file in files if file.is_file()])
    if summary["complete"]:
        screen.next_command("report", path, "--open")
    else:
        screen.next_command("status", path)


def _grid(summary: Mapping[str, Any], metrics: Sequence[str]) -> Iterator[list[str]]:
    """A line per condition: its cells, and the baseline and mean effect over seeds; the metric where there are several."""
    several = len(metrics) > 1
    yield [
        "condition",
        "done",
        "accuracy",
        *(["metric"] if several else []),
        "baseline",
        "mean effect",
        f"{formats.percent(summary['confidence'])} interval",
        "seeds from to",
    ]
    for name, found in summary["conditions"].items():
        metric = found.get("primary")
        base, effect = found["baseline"].get(metric, {}), found["metrics"].get(metric, {})
        accuracy = found["baseline"].get("accuracy", {}).get("mean")
        interval = formats.interval(_number(effect.get("ci_low")), _number(effect.get("ci_high")), 3)
        ends = [formats.signed(_number(effect.get("seeds", {}).get(end)), 3) for end in ("low", "high")]
        spread = " ".join(ends) if effect.get("n_seeds", 0) > 1 else "-"
        yield [
            name,
            f"{len(found['seeds'])}/{found['n_planned']}",
            formats.plain(_number(accuracy), 2),
            *([str(metric or "-")] if several else []),
            formats.plain(_number(base.get("mean")), 2),
            formats.signed(_number(effect.get("mean")), 3),
            interval,
            spread,
        ]


def _metrics(summary: Mapping[str, Any]) -> list[str]:
    """The primary metrics of the conditions, each once."""
    found = (condition.get("primary") for condition in summary["conditions"].values())
    return list(dict.fromkeys(str(name) for name in found if name))


def conserved(invariants: Mapping[str, Any]) -> Iterator[str]:
    """What the conditions share, a paragraph per comparison, with how many random sets would share."""
    for found in invariants["sets"]:
        if len(found["conditions"]) > 1:
            yield _sentence(found, invariants)


def _sentence(found: Mapping[str, Any], invariants: Mapping[str, Any]) -> str:
    what = TABLES[found["table"]].nouns[found["n_components"] != 1]
    members = [site_name(member) for member in found["members"]]
    listed = ", ".join(members[:_NAMED]) + (", ..." if len(members) > _NAMED else "")
    text = (
        f"{found['size']} of {found['n_components']} {what} {'is' if found['size'] == 1 else 'are'} {invariants['kept']} "
        f"by {found['metric']} (k={invariants['k']}, {len(found['conditions'])} conditions{_of(found)})"
    )
    text += f": {listed}." if members else "."
    if found["chance"]:
        first = found["chance"][0]
        p = formats.probability(first["p_value"])
        text += f" Chance alone would give {first['expected']:.2g} (p {p}; null: {first['null']})."
    agreement = found["agreement"]
    if agreement and agreement["kendalls_w"] is not None:
        text += f" The whole rankings agree with Kendall's W {agreement['kendalls_w']:.2f}."
    return text


def _of(found: Mapping[str, Any]) -> str:
    return f" of {found['model']}" if found.get("model") else ""


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)
