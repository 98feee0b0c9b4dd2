"""Findings: what finished runs say, as a page of Markdown. Every number is read from their files."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from tiny_ablation.aggregate.robustness import robustness_lines
from tiny_ablation.report import markdown, vocabulary
from tiny_ablation.report.circuits import circuit_headline, circuit_lines, circuit_tables
from tiny_ablation.report.evidence import evidence_lines, evidence_tables
from tiny_ablation.report.figures import style
from tiny_ablation.store.files import read_json, read_table
from tiny_ablation.store.reader import Run, load_run
from tiny_ablation.store.sweepdir import SweepDir
from tiny_ablation.store.untrusted import reading

# These say nothing about the result.
_MACHINE = ("tracking", "device.threads", "device.batch_tokens", "hydra/launcher")


def findings_page(directories: Sequence[Path], command: str) -> str:
    """The page.

    Args:
        directories: of finished runs, and of sweeps that compared replacements.
        command: what writes the page, to be named in it.

    Raises:
        ResultsError: a directory holds no finished run, or its files are damaged.
    """
    lines = [
        "# Findings", "",
        "What finished runs say, read from their files and checked against their checksums. Written by:", "",
        f"    {command}",
    ]  # fmt: skip
    for directory in directories:
        with reading(directory):
            section = _sweep(directory) if SweepDir(directory).plan.is_file() else _run(load_run(directory))
            lines += ["", *section]
    return "\n".join([*lines, ""])


def _run(run: Run) -> Iterator[str]:
    summary = run.summary
    yield f"## {summary['kind']}: {summary['model']} on {summary['dataset']}"
    yield ""
    yield from _how(run)
    circuit = summary.get("circuit")
    if circuit:
        yield from _circuit(circuit)
    else:
        yield from _top(run)
    lines = [*evidence_lines(summary), *(f"Note: {text}." for text in summary["warnings"])]
    yield from _bullets(lines)


def _how(run: Run) -> Iterator[str]:
    summary = run.summary
    provenance = read_json(run.dir.provenance)
    yield f"    tiny-ablate {' '.join(arg for arg in provenance['argv'][1:] if not arg.startswith(_MACHINE))}"
    yield ""
    shown = [name for name in ("accuracy", summary["primary"]) if name in summary["baseline"]]
    numbers = [f"{name} {_level(summary['baseline'][name])}" for name in shown]
    verdict = read_json(run.dir.verify)["verdict"] if run.dir.verify.is_file() else "not computed"
    yield (
        f"{summary['n_examples']} examples in {summary['n_groups']} groups, split {summary['split']}, seed {summary['seed']}; "
        f"baseline {', '.join(numbers)}; run `{summary['run_id']}` ({run.manifest.status}), a slice of it computed again in "
        f"another way: {verdict}."
    )
    yield ""


def _level(found: Mapping[str, Any]) -> str:
    mean, low, high = (style.number(found[key]) for key in ("mean", "ci_low", "ci_high"))
    return f"{style.plain(mean, 3)} {style.bounds(low, high, 3)}"


def _top(run: Run) -> Iterator[str]:
    """The strongest sites with their tests, then what controls and the held-out split say of them."""
    summary = run.summary
    metric, percent = summary["primary"], style.percent(summary["confidence"])
    places = style.decimals(style.number(row["delta"]) for row in summary["top"])
    index = [
        name for name in ("layer", "head", "set", "granularity", "position") if name in summary["top"][0]
    ]
    rows = [
        [
            " ".join(f"{name} {row[name]}" for name in index),
            style.signed(style.number(row["delta"]), places),
            _bounds(row, places),
            "-" if summary["resolution"] else style.probability(style.number(row["q_value"])),
        ]
        for row in summary["top"]
    ]
    yield f"The strongest by change in {metric} ({vocabulary.metric_vocabulary(metric).unit}):"
    yield ""
    yield from markdown.table(["site", "change", f"{percent} interval", "q"], rows)
    yield ""
    if summary["resolution"]:
        yield f"q: {summary['resolution']}."
    else:
        yield (
            f"q: false discovery rate over {summary['family_size']} tests ({vocabulary.procedure(summary['fdr'])}); null: "
            f"{summary['null']}."
        )
    for found in evidence_tables(summary, _controls(run)):
        yield ""
        yield found.caption
        yield ""
        yield from markdown.table(found.head, found.rows)


def _bounds(row: Mapping[str, Any], places: int) -> str:
    low, high = style.number(row["ci_low"]), style.number(row["ci_high"])
    return f"{style.interval(low, high, places)}{' (unresolved)' if style.holds_zero(low, high) else ''}"


def _controls(run: Run) -> pd.DataFrame | None:
    path = run.dir.metrics / "site_controls.parquet"
    return read_table(path) if path.is_file() else None


def _circuit(circuit: Mapping[str, Any]) -> Iterator[str]:
    yield f"**{circuit_headline(circuit)}**"
    yield ""
    ranked = circuit["ranked_by"]
    yield (
        f"Heads ranked by run `{ranked['run_id']}` ({ranked['metric']}), of whose examples {circuit['shared_examples']} are "
        f"evaluated here; replaced by: {circuit['replacement']}. f is 1 for the whole model ({circuit['metric']} "
        f"{circuit['full']:.3f}) and 0 with all {circuit['n_heads']} heads replaced ({circuit['empty']:.3f})."
    )
    yield from _bullets(circuit_lines(circuit))
    for found in circuit_tables(circuit):
        yield ""
        yield found.caption
        yield ""
        yield from markdown.table(found.head, found.rows)


def _sweep(directory: Path) -> Iterator[str]:
    found = read_json(SweepDir(directory).cross / "robustness.json")
    yield "## Robustness"
    yield from _bullets(robustness_lines(found))


def _bullets(lines: Sequence[str]) -> Iterator[str]:
    if lines:
        yield ""
    yield from (f"- {line}" for line in lines)
