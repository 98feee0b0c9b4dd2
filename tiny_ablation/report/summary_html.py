"""`report.html`: a run on one page that opens offline.

The first screen answers the question in words; figures, tables, methods, threats and provenance follow. The
page needs `artifacts/plotly.min.js` beside it for interactive figures and shows the static ones, which it
carries in itself, where that file or scripts are missing: it can be sent alone. It reads the run's files and
nothing else.
"""

import shlex
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from tiny_ablation import formats
from tiny_ablation.document import Section
from tiny_ablation.report import tables, templates, vocabulary
from tiny_ablation.report.answer import answer
from tiny_ablation.report.evidence import doubt, evidence, own_sections
from tiny_ablation.report.examples import examples_section, readouts_section
from tiny_ablation.report.figures import feature_panel, files, interactive
from tiny_ablation.report.figures.source import RunSource
from tiny_ablation.report.limitations import limitations
from tiny_ablation.report.page import page_figure, pairs
from tiny_ablation.store.files import read_json, read_table, write_text
from tiny_ablation.store.rundir import RunDir

_ROWS = 3000  # of the table in the page
_SIX = (
    ("granularity", "what is intervened on at a time"),
    ("component", "the activation that is replaced"),
    ("value", "what is put there"),
    ("positions", "at which tokens"),
    ("direction", "which run is changed, and what is read"),
    ("set", "how many sites at once"),
)


def write_run_report(run_dir: Path, *, status: str | None = None) -> Path:
    """Write `report.html` for the run in `run_dir`; a second call gives the same bytes.

    Args:
        run_dir: holds `metrics/summary.json` and an impact table; `provenance.json`, `config.yaml` and the
            PNG figures are used where they are there.
        status: how the run ended (`ok`, `partial`, `failed`), for when its manifest is not written yet; None
            reads it from there.

    Returns:
        The path of the page.

    Raises:
        ResultsError: a file is missing or damaged, or the table has no effect on the primary metric.
    """
    run = RunDir(Path(run_dir))
    summary = read_json(run.summary)
    impacts = [read_table(path) for path in sorted(run.metrics.glob("*_impact.parquet"))]
    own = own_sections(summary)
    answering = next((section for section in own if section.headline), None)
    page = templates.render(
        "report.html.j2",
        summary=summary,
        percent=formats.percent(_confidence(summary)),
        sections=[_section(run, summary, impact, answering) for impact in impacts],
        own=own,
        evidence=[
            evidence(summary, _optional(run.metrics / "site_controls.parquet")),
            examples_section(run, summary),
            readouts_section(run),
        ],
        baseline=_baseline_rows(summary),
        metrics=_metric_rows(summary),
        described=[(name, summary["intervention"].get(name, "-"), about) for name, about in _SIX],
        meaning=vocabulary.metric_vocabulary(summary["primary"]).meaning,
        unit=vocabulary.metric_vocabulary(summary["primary"]).unit,
        signs=vocabulary.signs(summary["primary"]),
        limitations=limitations(summary),
        features=(run.artifacts / f"{feature_panel.NAME}.html").is_file(),
        fdr=vocabulary.procedure(summary.get("fdr", "bh")),
        plotly=f"artifacts/{interactive.PLOTLY_JS}",
        status=status or _status(run),
        **_origin(run),
    )
    interactive.put_plotlyjs(run.artifacts)
    return write_text(run.report, page)


def _optional(path: Path) -> pd.DataFrame | None:
    return read_table(path) if path.is_file() else None


def _confidence(summary: Mapping[str, Any]) -> float:
    return summary.get("confidence", 0.95)


def _section(
    run: RunDir, summary: Mapping[str, Any], impact: pd.DataFrame, own: Section | None
) -> dict[str, Any]:
    """What the page says and shows of one impact table; `own` is the ablation's own answer, where it has one."""
    source = RunSource(run, impact, summary)
    usable = not summary.get("resolution")
    found = answer(
        impact,
        metric=source.metric,
        confidence=source.confidence,
        use_q=usable,
        family_size=summary["family_size"],
        doubt=partial(doubt, summary),
    )
    return {
        "headline": own.headline if own else found.headline,
        "firm": own.firm if own else found.firm,
        "answer": found,
        "figures": [page_figure(drawing, source, run.artifacts) for drawing in files.drawings(source)],
        "table": _table(impact, source.metric, usable),
        "many": vocabulary.noun(source.index, 2),
    }


def _table(impact: pd.DataFrame, metric: str, usable: bool) -> dict[str, Any]:
    """The rows of the sortable table, strongest first; each number as shown and, for sorting, as it is."""
    rows = tables.effects(impact, metric)
    places = formats.decimals(rows["delta"])
    index = tables.index_columns(impact)
    shown = tables.strongest(rows, _ROWS).to_dict("records")
    return {
        "id": f"sites-{'-'.join(index)}",
        "index": [name.replace("_", " ") for name in index],
        "total": len(rows),
        "rows": [_table_row(row, index, places, usable) for row in shown],
    }


def _table_row(row: Mapping[str, Any], index: tuple[str, ...], places: int, usable: bool) -> dict[str, Any]:
    q = row["q_value"] if usable else None
    bounds = tables.interval(row, places)
    numbers = [
        ("below" if row["delta"] < 0 else "above", row["delta"], formats.signed(row["delta"], places)),
        ("", row["ci_low"], bounds),
        ("", row["shrunken"], formats.signed(row["shrunken"], places)),
        ("", float("nan") if q is None else q, formats.probability(q)),
        ("", row["value"], formats.plain(row["value"], places)),
    ]
    return {
        "resolved": "yes" if row["resolved"] else "no",
        "find": tables.search_text(row, index),
        "index": [
            (row[name] if not isinstance(row[name], str) else None, _cell(row[name])) for name in index
        ],
        "numbers": numbers,
    }


def _cell(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _baseline_rows(summary: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Accuracy and the primary metric of the un-intervened run: name, mean, interval."""
    names = [name for name in ("accuracy", summary["primary"]) if name in summary["baseline"]]
    return [(name, *_mean_and_bounds(summary["baseline"][name], "mean")) for name in names]


def _metric_rows(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every metric: what it is, its baseline, its mean change over sites."""
    return [
        {
            "name": name,
            "words": vocabulary.metric_vocabulary(name),
            "baseline": _mean_and_bounds(summary["baseline"].get(name) or {}, "mean"),
            "change": _mean_and_bounds(found, "mean_delta"),
        }
        for name, found in summary["metrics"].items()
    ]


def _mean_and_bounds(found: Mapping[str, Any], key: str) -> tuple[str, str]:
    numbers = [
        float("nan") if found.get(name) is None else found[name] for name in (key, "ci_low", "ci_high")
    ]
    places = formats.decimals(numbers[:1])
    mean, low, high = numbers
    if key == "mean_delta":
        return formats.signed(mean, places), formats.interval(low, high, places)
    return formats.plain(mean, places), formats.bounds(low, high, places)


def _status(run: RunDir) -> str | None:
    return read_json(run.manifest).get("status") if run.manifest.is_file() else None


def _origin(run: RunDir) -> dict[str, Any]:
    """Where the numbers come from, and how to get them again."""
    provenance = read_json(run.provenance) if run.provenance.is_file() else {}
    config = run.config.read_text(encoding="utf-8", errors="replace") if run.config.is_file() else None
    argv = provenance.get("argv")
    return {
        "provenance": pairs({key: value for key, value in provenance.items() if key != "argv"}),
        "command": shlex.join(argv) if argv else None,
        "config": config,
    }
