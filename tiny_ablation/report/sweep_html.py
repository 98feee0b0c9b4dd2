"""`report.html` of a sweep: what its conditions have in common, on one page that opens offline.

The first screen answers in words; figures, tables, methods, threats, provenance and the command follow. As with the report of a
run, the page needs plotly.js beside its figures for interaction only, reads the sweep's files and nothing else, and comes out
the same each time.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tiny_ablation.report import templates, vocabulary
from tiny_ablation.report.figures import interactive
from tiny_ablation.report.figures.robustness import ROBUSTNESS
from tiny_ablation.report.figures.sweep_files import drawings, write_sweep_figures
from tiny_ablation.report.page import page_figure, pairs
from tiny_ablation.report.sweep_answer import sweep_answer
from tiny_ablation.report.sweep_command import sweep_command
from tiny_ablation.report.sweep_data import Comparison, SweepData, read_sweep
from tiny_ablation.report.sweep_tables import cells, conditions, hypotheses, robust_heads, sites
from tiny_ablation.store.files import read_json, write_text
from tiny_ablation.sweep.analysis.robustness import robustness_lines

_NAMED = 5  # conditions of a title
_SKIPPED = {"argv", "prompts", "started", "ended", "seconds", "config_hash", "data_hash", "split_hash"}


def write_sweep_report(sweep_dir: Path) -> Path:
    """Draw the figures of an aggregated sweep and write its `report.html`; a second call gives the same bytes.

    Args:
        sweep_dir: holds `sweep.json` and `artifacts/cross_condition/` as `aggregate_sweep` leaves it.

    Returns:
        The path of the page.

    Raises:
        ResultsError: it is no sweep, it was not aggregated, or a file is damaged.
    """
    data = read_sweep(sweep_dir)
    write_sweep_figures(data)
    interactive.put_plotlyjs(data.sweep.cross)
    page = templates.render(
        "sweep.html.j2",
        data=data,
        title=_title(data),
        sections=[_section(data, comparison) for comparison in data.comparisons],
        robustness=_robustness(data),
        conditions=conditions(data),
        hypotheses=hypotheses(data),
        cells=cells(data),
        warnings=list(_warnings(data)),
        run_warnings=[
            (name, found["warnings"])
            for name, found in data.summary["conditions"].items()
            if found.get("warnings")
        ],
        limitations=list(_limitations(data)),
        kinds=", ".join(_each(data, "kind")),
        described=_six(data),
        counts=data.summary["counts"],
        command=sweep_command(data.plan),
        provenance=[
            *pairs({"plan": data.plan.plan_digest, "sweep": dict(data.plan.settings)}),
            *_provenance(data),
        ],
        plotly=f"artifacts/cross_condition/{interactive.PLOTLY_JS}",
    )
    return write_text(data.sweep.report, page)


def _title(data: SweepData) -> str:
    kinds, names = _each(data, "kind"), data.plan.conditions
    return f"{', '.join(kinds)}: {', '.join(names) if len(names) <= _NAMED else f'{len(names)} conditions'}"


def _each(data: SweepData, key: str) -> list[str]:
    """What the conditions have under `key`, each once."""
    found = [condition.get(key) for condition in data.summary["conditions"].values()]
    flat = [
        value for each in found if each is not None for value in (each if isinstance(each, list) else [each])
    ]
    return list(dict.fromkeys(map(str, flat)))


def _section(data: SweepData, comparison: Comparison) -> dict[str, Any]:
    """What the page says and shows of one table, model and metric."""
    said = vocabulary.metric_vocabulary(comparison.metric)
    many = vocabulary.noun(comparison.index, 2)
    of = f" of {comparison.model}" if data.several_models else ""
    return {
        "name": f"{many}{of}, by {comparison.metric}",
        "answer": sweep_answer(data, comparison),
        "figures": [page_figure(drawing, comparison, data.sweep.cross) for drawing in drawings(comparison)],
        "table": sites(comparison),
        "many": many,
        "metric": comparison.metric,
        "unit": said.unit,
        "meaning": said.meaning,
        "signs": vocabulary.signs(comparison.metric),
    }


def _robustness(data: SweepData) -> dict[str, Any] | None:
    """What the page says and shows of several ways to intervene; None where the sweep has one."""
    found = data.robustness
    if not found:
        return None
    return {
        "holds": len(found["holds"]),
        "tested": found["n_heads"],
        "conditions": len(found["conditions"]),
        "sentences": robustness_lines(found),
        "unit": vocabulary.metric_vocabulary(found["metric"]).unit,
        "figure": page_figure(ROBUSTNESS, found, data.sweep.cross),
        "table": robust_heads(data),
    }


def _warnings(data: SweepData) -> Iterator[str]:
    for key, what in (("failed", "failed"), ("missing", "are not finished")):
        if found := data.summary[key]:
            names = ", ".join(f"{cell['condition']} seed {cell['seed']}" for cell in found)
            yield f"{len(found)} of {len(data.plan.cells)} runs {what}, and are in no number here: {names}."
    yield from data.summary["warnings"]
    yield from data.invariants.get("notes", ())


def _limitations(data: SweepData) -> Iterator[str]:
    """What stands between these numbers and a conclusion."""
    k = data.invariants.get("k")
    yield (
        f"A site is counted as conserved because it is in top sets of size {k} and its effects are resolved; another k "
        "gives other sets, and more examples resolve more. Look at the whole rankings as well."
    )
    yield (
        "Top sets are chosen and measured on the same examples, which flatters their members: look again on another split "
        "(dataset.split=test)."
    )
    if any(each.get("replicates") is False for each in data.summary["conditions"].values()):
        yield "Where seeds draw nothing, they are one measurement: intervals there are over examples of one run."
    elif any(len(each["seeds"]) > 1 for each in data.summary["conditions"].values()):
        yield (
            "Seeds draw other examples of the same wordings. Intervals are over the examples of all seeds, by wording; "
            "the spread of the seeds' means is no interval."
        )
    yield (
        "A site that every condition needs may serve what all prompts share, such as attending to the first token, rather than "
        "the behaviour: compare with conditions in which the behaviour is absent."
    )
    yield (
        f"The result is about {', '.join(_each(data, 'model')) or 'one model'} on these data sets, and says nothing by itself "
        "about others."
    )


def _six(data: SweepData) -> list[tuple[str, str]]:
    """The intervention as the finished runs describe it: each part with its values over runs."""
    found: dict[str, dict[str, None]] = {}
    for part in _of_runs(data, "metrics/summary.json"):
        for name, value in part.get("intervention", {}).items():
            found.setdefault(name, {})[str(value)] = None
    return [(name, "; ".join(values)) for name, values in found.items()]


def _provenance(data: SweepData) -> list[tuple[str, str]]:
    """What the runs say of code, versions and machine; what differs between them is left to their own pages."""
    told = [
        dict(pairs({k: v for k, v in each.items() if k not in _SKIPPED}))
        for each in _of_runs(data, "provenance.json")
    ]
    if not told:
        return []
    names = [name for name in told[0] if all(name in each for each in told)]
    return [
        (name, told[0][name] if all(each[name] == told[0][name] for each in told) else "differs between runs")
        for name in names
    ]


def _of_runs(data: SweepData, name: str) -> Iterator[Mapping[str, Any]]:
    for run in data.finished:
        if (run.path / name).is_file():
            yield read_json(run.path / name)
