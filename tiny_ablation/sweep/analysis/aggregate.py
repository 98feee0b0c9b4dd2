"""From the files of a sweep to its cross-condition results, in one pass."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tiny_ablation.config.schema import SweepConfig
from tiny_ablation.config.sweep import sweep_config
from tiny_ablation.errors import ResultsError
from tiny_ablation.store.files import write_json, write_table
from tiny_ablation.store.reader import load_run
from tiny_ablation.store.sweepdir import CellState, SweepDir, SweepPlan, read_plan
from tiny_ablation.sweep.analysis import SweepOutcome, write_sweep_manifest
from tiny_ablation.sweep.analysis.children import FinishedRun, collect
from tiny_ablation.sweep.analysis.confirmed import confirmed
from tiny_ablation.sweep.analysis.declared import check_hypotheses
from tiny_ablation.sweep.analysis.effects import effect_grids
from tiny_ablation.sweep.analysis.examples import Examples
from tiny_ablation.sweep.analysis.geometry import geometry
from tiny_ablation.sweep.analysis.hypotheses import judge_hypotheses
from tiny_ablation.sweep.analysis.invariants import find_invariants, ranking_metrics
from tiny_ablation.sweep.analysis.matrices import write_matrices
from tiny_ablation.sweep.analysis.robustness import NothingShared, RobustnessTables, sweep_robustness
from tiny_ablation.sweep.analysis.summary import condition_warnings, sweep_summary


def aggregate(sweep_dir: Path) -> SweepOutcome:
    """See `aggregate_sweep`."""
    sweep, plan = SweepDir(sweep_dir), read_plan(sweep_dir)
    cfg = sweep_config(plan.settings)
    declared = check_hypotheses(cfg.hypotheses)
    states, children = collect(sweep, plan)
    outcome = _outcome(sweep_dir, plan, states, children)
    grids, metrics = effect_grids(children), ranking_metrics(cfg, children)
    examples = [Examples(grid, [*metrics, *(h.metric for h in declared if h.metric)]) for grid in grids]
    robust, notes = _robustness(children)
    outcome = replace(outcome, warnings=(*outcome.warnings, *notes))
    files = write_matrices(sweep.cross, children, grids)
    invariant = find_invariants(grids, examples, cfg, metrics)
    content = {
        sweep.summary: sweep_summary(plan, outcome, children),
        _invariants(sweep): invariant | confirmed(sweep, plan, invariant),
        sweep.cross / "hypotheses.json": judge_hypotheses(declared, grids, examples, cfg, metrics),
        sweep.cross / "geometry.json": geometry(grids, metrics),
    }
    files += [write_json(path, value) for path, value in content.items()]
    files += _write_robustness(sweep, robust) if robust else []
    outcome = replace(outcome, files=tuple(files))
    write_sweep_manifest(outcome)
    return outcome


def invariants(sweep_dir: Path, change: Callable[[SweepConfig], SweepConfig], *, write: bool) -> dict[str, Any]:
    """See `sweep_invariants`."""
    sweep, plan = SweepDir(sweep_dir), read_plan(sweep_dir)
    cfg = change(sweep_config(plan.settings))
    states, children = collect(sweep, plan)
    if not children:
        raise ResultsError(f"{sweep_dir} has no finished run; `tiny-ablate status {sweep_dir}` says why")
    grids, metrics = effect_grids(children), ranking_metrics(cfg, children)
    content = find_invariants(grids, [Examples(grid, metrics) for grid in grids], cfg, metrics)
    content |= confirmed(sweep, plan, content)
    if write:
        write_json(_invariants(sweep), content)
        write_sweep_manifest(_outcome(sweep_dir, plan, states, children))
    return content


def _invariants(sweep: SweepDir) -> Path:
    return sweep.cross / "invariants.json"


def _outcome(sweep_dir: Path, plan: SweepPlan, states: Sequence[CellState], children: Sequence[FinishedRun]) -> SweepOutcome:
    return SweepOutcome(sweep_dir, tuple(states), tuple(_warnings(plan, states, children)))


def _warnings(plan: SweepPlan, states: Sequence[CellState], children: Sequence[FinishedRun]) -> Iterator[str]:
    if not plan.content:
        yield "an earlier version planned this sweep and did not record the weights and data of its runs: they may differ"
    yield from condition_warnings(plan, children)
    for state in states:
        if state.state == "duplicate":
            yield f"{state.cell.dir} is left out: {state.error}"


def _robustness(children: Sequence[FinishedRun]) -> tuple[RobustnessTables | None, list[str]]:
    """How far several ways to intervene agree, where the sweep has several of one model and behaviour; and why not, if not."""
    if any(child.chosen is not None for child in children):  # of the others nobody knows whether they hold
        return None, []
    try:
        return sweep_robustness([load_run(child.dir.path, check=False) for child in children]), []
    except NothingShared as error:
        return None, [f"the ways of intervening are not compared head by head: {error}"]


def _write_robustness(sweep: SweepDir, found: RobustnessTables) -> list[Path]:
    return [
        write_table(sweep.cross / "robustness.parquet", found.agreement),
        write_table(sweep.cross / "robustness_heads.parquet", found.heads),
        write_json(sweep.cross / "robustness.json", found.summary),
    ]
