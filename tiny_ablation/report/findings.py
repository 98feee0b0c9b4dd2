"""Findings: what finished runs say, as a page of Markdown. Every number is read from their files."""

import html
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tiny_ablation import formats
from tiny_ablation.ablations.registry import find_ablation
from tiny_ablation.data.text import tame
from tiny_ablation.report import markdown
from tiny_ablation.report.evidence import read_controls, sections
from tiny_ablation.run import effects, vocabulary
from tiny_ablation.store.files import read_json
from tiny_ablation.store.reader import Run, load_run
from tiny_ablation.store.sweepdir import SweepDir
from tiny_ablation.store.untrusted import reading
from tiny_ablation.sweep.analysis.robustness import robustness_lines

# These say nothing about the result.
_MACHINE = ("tracking", "device.threads", "device.batch_tokens", "hydra/launcher")


class _Code(str):
    """A line that is a block of code by itself; blank lines stand around it."""


def findings_page(directories: Sequence[Path], command: str) -> str:
    """The page of finished runs, and of sweeps that compared replacements; it names the `command` that writes it.

    Raises:
        ResultsError: a directory holds no finished run, or its files are damaged.
    """
    lines = [
        "# Findings",
        "",
        "What finished runs say, read from their files and checked against their checksums. Written by:",
        "",
        _Code(command),
    ]
    for directory in directories:
        with reading(directory):
            if SweepDir(directory).plan.is_file():
                robust = robustness_lines(read_json(SweepDir(directory).cross / "robustness.json"))
                lines += ["", "## Robustness", *_bullets(robust)]
            else:
                lines += ["", *_run(load_run(directory))]
    return "\n".join([*map(_safe, lines), ""])


def _safe(line: str) -> str:
    """A line of the page in which names and notes of a run are text: no HTML, no links or images of theirs, no lines of theirs.

    A block of code is left as it is: nothing in it means anything.
    """
    text = tame(" ".join(line.splitlines()))
    if isinstance(line, _Code):
        return f"    {text}"
    return re.sub(r"\](?=[(\[:])", r"]\\", html.escape(text, quote=False))


def _run(run: Run) -> Iterator[str]:
    summary = run.summary
    yield from (f"## {summary['kind']}: {summary['model']} on {summary['dataset']}", "")
    given = [arg for arg in read_json(run.dir.provenance)["argv"][1:] if not arg.startswith(_MACHINE)]
    yield from (_Code(shlex.join(["tiny-ablate", *given])), "")
    numbers = []
    for name in ("accuracy", summary["primary"]):
        if found := summary["baseline"].get(name):
            bounds = formats.bounds(found["ci_low"], found["ci_high"], 3)
            numbers.append(f"{name} {formats.plain(found['mean'], 3)} {bounds}")
    verdict = read_json(run.dir.verify)["verdict"] if run.dir.verify.is_file() else "not computed"
    yield (
        f"{summary['n_examples']} examples in {summary['n_groups']} groups, split {summary['split']}, seed {summary['seed']}; "
        f"baseline {', '.join(numbers)}; run `{summary['run_id']}` ({run.manifest.status}), a slice of it computed again in "
        f"another way: {verdict.replace('_', ' ')}."
    )
    yield ""
    if not find_ablation(summary["kind"]).has_circuits:
        yield from _top(summary)
    for section in sections(summary, read_controls(run.dir)):
        if section.headline:
            yield f"**{section.headline}**"
        yield from _bullets(section.text)
        for found in section.tables:
            yield from ("", found.caption, "")
            yield from markdown.table(found.head, found.rows)
    yield from _bullets([f"Note: {text}." for text in summary["warnings"]])


def _top(summary: Mapping[str, Any]) -> Iterator[str]:
    """The strongest sites with their tests."""
    metric, percent = summary["primary"], formats.percent(summary["confidence"])
    places = formats.decimals(formats.number(row["delta"]) for row in summary["top"])
    rows = []
    for row in summary["top"]:
        q = "-" if summary["resolution"] else formats.probability(row["q_value"])
        rows.append([effects.site_name(row), formats.signed(row["delta"], places), _bounds(row, places), q])
    yield from (f"The strongest by change in {metric} ({vocabulary.metric_vocabulary(metric).unit}):", "")
    yield from markdown.table(["site", "change", f"{percent} interval", "q"], rows)
    yield ""
    if summary["resolution"]:
        yield f"q: {summary['resolution']}."
    else:
        yield f"q: {vocabulary.procedure(summary['fdr'])}, over {summary['family_size']} tests; null: {summary['null']}."


def _bounds(row: Mapping[str, Any], places: int) -> str:
    low, high = row["ci_low"], row["ci_high"]
    return f"{formats.interval(low, high, places)}{' (unresolved)' if formats.holds_zero(low, high) else ''}"


def _bullets(lines: Sequence[str]) -> Iterator[str]:
    if lines:
        yield ""
    yield from (f"- {line}" for line in lines)
