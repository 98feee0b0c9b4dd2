"""`report.html`: a run on one page that opens offline.

The first screen answers the question in words; figures, tables, methods, threats and provenance follow. The
page needs `artifacts/plotly.min.js` beside it for interactive figures and shows the static ones, which it
carries in itself, where that file or scripts are missing: it can be sent alone. It reads the run's files and
nothing else.
"""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tiny_ablation import formats
from tiny_ablation.ablations.registry import find_ablation
from tiny_ablation.document import Cell, Figure, Page, Section, Table
from tiny_ablation.report.answer import answer
from tiny_ablation.report.evidence import doubt, evidence, read_controls
from tiny_ablation.report.examples import examples_section, readouts_section
from tiny_ablation.report.figures import feature_panel
from tiny_ablation.report.figures.of_run import run_figures
from tiny_ablation.report.html import ROWS, pairs, write_page
from tiny_ablation.run import effects, vocabulary
from tiny_ablation.run.result import Result
from tiny_ablation.store.files import read_json, read_table
from tiny_ablation.store.rundir import RunDir
from tiny_ablation.store.schema import largest_first

_FEW_GROUPS = 20  # with a dozen, 95 % intervals of strongly skewed effects were measured to cover 91 %
_LOW_ACCURACY = 0.5
_LIMITS_OF_VALUES = {
    "zero": "Zero is a value that the component may never take by itself, so later layers may fail for being shown something "
    "unusual as well as for missing what it says. Mean or resample ablation asks a milder question.",
    "mean": "The mean removes what varies between examples, and leaves what is the same in all.",
    "resample": "Another example's value brings that example's information along: an effect mixes loss and misdirection.",
    "patch": "Patching shows what differs between the two prompts of a pair, not what they share.",
    "noise": "Effects depend on how strong the noise is; other strengths may give other results.",
}
_SIX = (
    ("granularity", "what is intervened on at a time"),
    ("component", "the activation that is replaced"),
    ("value", "what is put there"),
    ("positions", "at which tokens"),
    ("direction", "which run is changed, and what is read"),
    ("set", "how many sites at once"),
)


def write_run_report(run_dir: Path, *, status: str | None = None, figures: Sequence[Sequence[Figure]] | None = None) -> Path:
    """The path of the `report.html` that was written for the run in `run_dir`; a second call gives the same bytes.

    Needs `metrics/summary.json` and an impact table; `provenance.json`, `config.yaml` and the PNG figures are used where they
    are there. `status` is how the run ended (`ok`, `partial`, `failed`), where its manifest does not say it yet; `figures` are
    those of each impact table, where they are at hand.

    Raises:
        ResultsError: a file is missing or damaged, or the table has no effect on the primary metric.
    """
    run = RunDir(Path(run_dir))
    summary = read_json(run.summary)
    results = [Result(run, read_table(path), summary) for path in sorted(run.metrics.glob("*_impact.parquet"))]
    if status is None and run.manifest.is_file():
        status = read_json(run.manifest).get("status")
    if figures is None:
        figures = [list(run_figures(result)) for result in results]
    own = find_ablation(summary["kind"]).sections(summary)
    said = vocabulary.metric_vocabulary(summary["primary"])
    answers, facts = _first_screen(summary, results, own)
    unfinished = [f"This run is {status}: the numbers cover what was finished."] if status and status != "ok" else []
    page = Page(
        title=f"{summary['condition']} · {summary['kind']} · {summary['model']}",
        eyebrow=f"tiny-ablate · {summary['kind']} · {summary['model']} · {summary['dataset']} · seed {summary['seed']}",
        answers=answers,
        warnings=[*unfinished, *summary["warnings"]],
        facts=facts,
        notes=[
            f"{summary['primary']} is {said.meaning}, in {said.unit}. The baseline is "
            f"{summary.get('baseline_of', 'the un-intervened run')}. A change is the value with the site intervened on minus "
            "that of the baseline, averaged over examples."
        ],
        sections=[*own, *_sections(run, summary, results, figures)],
        footer="The tables behind every number stand in metrics/, their checksums in manifest.json.",
    )
    return write_page(page, run.report, run.artifacts)


def _sections(
    run: RunDir, summary: Mapping[str, Any], results: Sequence[Result], figures: Sequence[Sequence[Figure]]
) -> Iterator[Section]:
    for result, drawn in zip(results, figures, strict=True):
        yield Section("Figures", figures=drawn)
        yield _sites(result)
    if (run.artifacts / f"{feature_panel.NAME}.html").is_file():
        what = "Where each feature is active, what it promotes, what switching it off does."
        yield Section("The feature panel", [what], link=f"artifacts/{feature_panel.NAME}.html")
    yield evidence(summary, read_controls(run))
    yield examples_section(run, summary)
    yield readouts_section(run)
    yield _metrics(summary)
    yield _methods(summary)
    yield Section("Threats to validity", items=list(_limitations(summary)))
    provenance = read_json(run.provenance) if run.provenance.is_file() else {}
    argv = provenance.pop("argv", None)
    code = [(shlex.join(argv), "")] if argv else []
    if run.config.is_file():
        config = run.config.read_text(encoding="utf-8", errors="replace")
        code.append((config, "The whole configuration (config.yaml)"))
    yield Section("Run it again", code=code)
    yield Section("Provenance", pairs=[("run", summary["run_id"]), *pairs(provenance)])


def _first_screen(
    summary: Mapping[str, Any], results: Sequence[Result], own: Sequence[Section]
) -> tuple[list[Section], list[tuple[str, str, str]]]:
    """The answers, and the numbers below them."""
    percent = formats.percent(summary.get("confidence", 0.95))
    facts = []
    for name in ("accuracy", summary["primary"]):
        if name in summary["baseline"]:
            mean, bounds = _mean_and_bounds(summary["baseline"][name], "mean")
            facts.append((f"baseline {name}", mean, f"{percent} interval {bounds.replace(' ', formats.NO_BREAK)}"))
    facts.append(("examples", str(summary["n_examples"]), f"in {summary['n_groups']} groups, split {summary['split']}"))
    answering = next((section for section in own if section.headline), None)
    answers = []
    for result in results:
        found = answer(
            result.impact,
            metric=result.metric,
            confidence=result.confidence,
            use_q=not summary.get("resolution"),
            family_size=summary["family_size"],
            doubt=partial(doubt, summary),
        )
        many, shown = vocabulary.noun(result.index, 2), answering or found
        # The sentences are about the strongest site, which a headline of the ablation's own need not be.
        text = [found.headline, *found.sentences] if answering else found.sentences
        answers.append(Section(many, text, headline=shown.headline, firm=shown.firm))
        small = "" if found.significant is None else f"{found.significant} with q at most 0.05"
        facts.append((f"{many} whose interval excludes 0", f"{found.resolved} of {found.tested}", small))
    return answers, facts


def _sites(result: Result) -> Section:
    """Every effect on the primary metric, strongest first, in a table that can be sorted and searched."""
    rows, usable = result.rows, not result.summary.get("resolution")
    places, many = formats.decimals(rows["delta"]), vocabulary.noun(result.index, 2)
    shown = largest_first(rows).head(ROWS).to_dict("records")
    some = f" The {len(shown)} strongest of {len(rows)} rows; the rest stand in metrics/." if len(shown) < len(rows) else ""
    unit, cells = vocabulary.metric_vocabulary(result.metric).unit, []
    names = effects.with_pair(dict.fromkeys(result.named))
    for row in shown:
        q = row["q_value"] if usable else float("nan")
        delta, shrunken, value = row["delta"], row["shrunken"], row["value"]
        change = Cell(formats.signed(delta, places), delta, "below" if delta < 0 else "above")
        interval = Cell(effects.interval(row, places), row["ci_low"])
        expected, level = Cell(formats.signed(shrunken, places), shrunken), Cell(formats.plain(value, places), value)
        named = effects.with_pair({name: row[name] for name in result.named})
        site = [effects.index_cell(value) for value in named.values()]
        cells.append([*site, change, interval, expected, Cell(formats.probability(q), q), level])
    table = Table(
        f"Change in {result.metric} ({unit}).{some} Each interval is for its own site only, not corrected for the number of "
        "sites. Grey rows are unresolved: their interval includes 0.",
        [*(name.replace("_", " ") for name in names), "change", f"{result.percent} interval", "shrunken", "q", "value"],
        cells,
        id=f"sites-{'-'.join(result.index)}",
        strong=[bool(row["resolved"]) for row in shown],
        find=[effects.search_text(row, result.named) for row in shown],
        only="only resolved",
    )
    return Section(f"All {many}", tables=[table])


def _metrics(summary: Mapping[str, Any]) -> Section:
    """Every metric: what it is, its baseline, its mean change over sites."""
    rows = []
    for name, found in summary["metrics"].items():
        said = vocabulary.metric_vocabulary(name)
        baseline, _ = _mean_and_bounds(summary["baseline"].get(name) or {}, "mean")
        rows.append([name, baseline, *_mean_and_bounds(found, "mean_delta"), said.unit, Cell(said.meaning, how="wide")])
    percent = formats.percent(summary.get("confidence", 0.95))
    caption = "The mean change is over all sites and scales of the run: how much an average intervention does."
    head = ["metric", "baseline", "mean change", f"{percent} interval", "unit", "what it is"]
    return Section("All metrics", tables=[Table(caption, head, rows)])


def _mean_and_bounds(found: Mapping[str, Any], key: str) -> tuple[str, str]:
    mean, low, high = (formats.number(found.get(name)) for name in (key, "ci_low", "ci_high"))
    places = formats.decimals([mean])
    if key == "mean_delta":
        return formats.signed(mean, places), formats.interval(low, high, places)
    return formats.plain(mean, places), formats.bounds(low, high, places)


def _methods(summary: Mapping[str, Any]) -> Section:
    percent = formats.percent(summary.get("confidence", 0.95))
    tests = (
        f"q‑values are not shown: {summary['resolution']}"
        if summary["resolution"]
        else f"p‑values test each site against this null: {summary['null']}. q‑values, over the family of "
        f"{summary['family_size']} tests: {vocabulary.procedure(summary.get('fdr', 'bh'))}."
    )
    text = [
        f"Each site of {summary['model']} was intervened on alone, for each of {summary['n_examples']} examples of "
        f"{summary['dataset']} (split {summary['split']}, {summary['n_groups']} groups, seed {summary['seed']}), and compared "
        "with the baseline of the same example.",
        f"Intervals are {percent} intervals of the mean change, clustered by group: bootstrap‑t, or a cluster‑robust t where "
        "groups are few or unequal; exact for rates. They are about one site each; for the strongest sites see the intervals "
        f"that allow for the choice. {tests}",
    ]
    rows = [[name, Cell(summary["intervention"].get(name, "-"), how="wide"), about] for name, about in _SIX]
    six = Table("The intervention, as the six-tuple of Miller et al. (2024).", ["part", "value", "what it says"], rows)
    return Section("Methods", text, [six])


def _limitations(summary: Mapping[str, Any]) -> Iterator[str]:
    """What stands between the numbers and a conclusion, as far as the run can tell: first what its own numbers raise."""
    if summary.get("resolution"):
        yield f"No correction for multiple tests: {summary['resolution']}"
    if summary["n_groups"] < _FEW_GROUPS:
        yield (
            f"Examples come in {summary['n_groups']} groups. Intervals are clustered by group, and with fewer than "
            f"{_FEW_GROUPS} those of strongly skewed effects tend to be too short."
        )
    accuracy = (summary["baseline"].get("accuracy") or {}).get("mean")
    if accuracy is not None and accuracy < _LOW_ACCURACY:
        yield (
            f"The model answers only {100 * accuracy:.0f} % of the examples correctly, so much of what is measured is how it "
            "fails."
        )
    if summary.get("seed_effect") == "none":
        yield "The seed changes nothing here (seed_effect: none): another seed is no replication."
    replaced = str(summary["intervention"].get("value", "")).lower()
    yield from (text for name, text in _LIMITS_OF_VALUES.items() if name in replaced)
    yield (
        "Sites are intervened on one at a time: where two can stand in for each other, each alone may look unimportant, and "
        "later heads may make up for what was removed."
    )
    yield (
        "The strongest of many measured sites are partly the luckiest. Their intervals allow for the choice and their shrunken "
        "sizes say what to expect; measuring them again on a held-out split (stats.confirm) says it best."
    )
    yield (
        f"The result is about {summary['model']} on the {summary['n_examples']} examples used, and says nothing by itself "
        "about other models, wordings or tasks."
    )
