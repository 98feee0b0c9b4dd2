"""`report.html` of a sweep: what its conditions have in common, on one page that opens offline.

The first screen answers in words; figures, tables, methods, threats, provenance and the command follow. As with the report of a
run, the page needs plotly.js beside its figures for interaction only, reads the sweep's files and nothing else, and comes out
the same each time.
"""

import itertools
import shlex
from collections.abc import Iterator
from pathlib import Path

from tiny_ablation.document import Page, Section
from tiny_ablation.report.figures.drawing import write
from tiny_ablation.report.figures.of_sweep import comparison_figures, robustness_figure
from tiny_ablation.report.html import pairs, write_page
from tiny_ablation.report.sweep_answer import sweep_answer
from tiny_ablation.report.sweep_data import Comparison, SweepData, read_sweep
from tiny_ablation.report.sweep_tables import cells, conditions, hypotheses, of_runs, robust_heads, run_warnings, sites, six
from tiny_ablation.run import vocabulary
from tiny_ablation.store.sweepdir import SweepPlan
from tiny_ablation.sweep.analysis.robustness import robustness_lines

_NAMED = 5  # conditions of a title
_SKIPPED = {"argv", "prompts", "started", "ended", "seconds", "config_hash", "data_hash", "split_hash"}


def write_sweep_report(sweep_dir: Path) -> Path:
    """The path of `report.html`, written anew with the figures of an aggregated sweep; a second call gives the same bytes.

    Raises:
        ResultsError: it is no sweep, it was not aggregated, or a file is damaged.
    """
    data = read_sweep(sweep_dir)
    page = _page(data)
    for section in page.sections:
        for figure in section.figures:
            write(figure, data.sweep.cross)
    return write_page(page, data.sweep.report, data.sweep.cross)


def _page(data: SweepData) -> Page:
    kinds, names = _each(data, "kind"), data.plan.conditions
    title = ", ".join(names) if len(names) <= _NAMED else f"{len(names)} conditions"
    if kinds != list(names):
        title = f"{', '.join(kinds)}: {title}"
    ok, n = data.summary["counts"].get("ok", 0), len(data.plan.cells)
    answers, facts = [], []
    for comparison in data.comparisons:
        said, fact = sweep_answer(data, comparison, _name(data, comparison))
        answers.append(said)
        facts.append(fact)
    if robust := data.robustness:
        small = f"one sign, every interval excludes 0, in {len(robust['conditions'])} conditions"
        holds = f"{len(robust['holds'])} of {robust['n_heads']}"
        facts.append(("heads that hold however one intervenes", holds, small))
    notes = []
    for metric in dict.fromkeys(comparison.metric for comparison in data.comparisons):
        said = vocabulary.metric_vocabulary(metric)
        notes.append(
            f"{metric} is {said.meaning}, in {said.unit}. A change is the value with the site intervened on minus the value of "
            "the un-intervened run (the baseline), averaged over examples and then over seeds."
        )
    return Page(
        title=title,
        eyebrow=f"tiny-ablate · sweep · {title} · {ok} of {n} runs",
        answers=answers or [Section("", headline="No run of this sweep has finished.")],
        warnings=list(_warnings(data)),
        facts=[("runs finished", f"{ok} of {n}", f"{len(data.plan.conditions)} conditions"), *facts],
        notes=notes,
        sections=list(_sections(data)),
        footer="The tables behind every number stand in artifacts/cross_condition/, their checksums in manifest.json.",
    )


def _name(data: SweepData, comparison: Comparison) -> str:
    of = f" of {comparison.model}" if data.several_models else ""
    return f"{vocabulary.noun(comparison.index, 2)}{of}, by {comparison.metric}"


def _sections(data: SweepData) -> Iterator[Section]:
    if data.hypotheses.get("hypotheses"):
        yield Section("Hypotheses declared before the sweep", tables=[hypotheses(data)])
    if data.robustness:
        yield Section(
            "Does it depend on how one intervenes?",
            robustness_lines(data.robustness),
            [robust_heads(data)],
            figures=[robustness_figure(data.robustness)],
        )
    for comparison in data.comparisons:
        name = _name(data, comparison)
        figures = comparison_figures(comparison)
        yield Section(f"{name[:1].upper()}{name[1:]}", tables=[sites(comparison)], figures=figures)
    warnings = run_warnings(data)
    yield Section("Conditions", tables=[conditions(data), *([warnings] if warnings.rows else [])])
    yield Section("Methods", list(_methods(data)), [table for table in [six(data)] if table.rows])
    yield Section("Threats to validity", items=list(_limitations(data)))
    command = sweep_command(data.plan)
    again = [] if command else ["The cells are no full grid; each run's own page holds its command."]
    yield Section("Run it again", again, [cells(data)], code=[(command, "")] if command else [])
    settings = {"plan": data.plan.plan_digest, "sweep": dict(data.plan.settings)}
    yield Section("Provenance", pairs=[*pairs(settings), *_provenance(data)])


def _methods(data: SweepData) -> Iterator[str]:
    yield (
        f"{len(data.plan.cells)} runs of {', '.join(_each(data, 'kind')) or 'the ablation'}, one for each condition and seed "
        f"({', '.join(data.plan.varies)} varied). In each, every site was intervened on alone and compared with the "
        "un-intervened run of the same example."
    )
    found = data.invariants
    if not found:
        return
    convention = "; ".join(dict.fromkeys(found["convention"].values()))
    which = found["direction"] + (f": {convention}" if found["direction"] != "both" else "")
    yield (
        f"A condition's top set holds its strongest sites by mean change over seeds (sweep.k={found['k']}, "
        f"sweep.direction={which}). Invariant (sweep.op={found['op']}): {found['kept']}. The size of that set is compared with "
        "random sets under each null that is named above; agreement of whole rankings is Kendall's W with ties corrected and "
        f"rank‑biased overlap (Webber et al. 2010); stability is the share of {found['n_resamples']} draws of groups of "
        "examples in which a member comes back."
    )


def _each(data: SweepData, key: str) -> list[str]:
    """What the conditions have under `key`, each once."""
    found = [condition.get(key) for condition in data.summary["conditions"].values()]
    flat = [value for each in found if each is not None for value in (each if isinstance(each, list) else [each])]
    return list(dict.fromkeys(map(str, flat)))


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
        yield "Where seeds change nothing, they are one measurement: intervals there are over examples of one run."
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


def _provenance(data: SweepData) -> list[tuple[str, str]]:
    """What the runs say of code, versions and machine; what differs between them is left to their own pages."""
    told = [dict(pairs({k: v for k, v in each.items() if k not in _SKIPPED})) for each in of_runs(data, "provenance.json")]
    found = []
    for name in told[0] if told else ():
        if all(name in each for each in told):
            values = {each[name] for each in told}
            found.append((name, values.pop() if len(values) == 1 else "differs between runs"))
    return found


def sweep_command(plan: SweepPlan) -> str | None:
    """One line whose grid is the plan's cells; None where no grid is (the cells' own overrides say it then)."""
    choices: dict[str, dict[str, None]] = {}
    for cell in plan.cells:
        for override in cell.overrides:
            key, _, value = override.partition("=")
            choices.setdefault(key, {})[value] = None
    cells = {tuple(sorted(cell.overrides)) for cell in plan.cells}
    grid = itertools.product(*([f"{key}={value}" for value in values] for key, values in choices.items()))
    # A grid that is larger than the plan cannot be the plan's, so it need not be walked to the end.
    product = {tuple(sorted(each)) for each in itertools.islice(grid, len(cells) + 1)}
    if not cells or product != cells:
        return None
    return shlex.join(["tiny-ablate", "-m", *(f"{key}={','.join(values)}" for key, values in choices.items())])
