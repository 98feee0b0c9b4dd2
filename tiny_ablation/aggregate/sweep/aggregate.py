"""From the files of a sweep to its cross-condition results, in one pass."""

from dataclasses import replace
from pathlib import Path

from tiny_ablation.aggregate.sweep import SweepOutcome, write_sweep_manifest
from tiny_ablation.aggregate.sweep.children import collect
from tiny_ablation.aggregate.sweep.declared import check_hypotheses
from tiny_ablation.aggregate.sweep.effects import effect_grids
from tiny_ablation.aggregate.sweep.examples import Examples
from tiny_ablation.aggregate.sweep.geometry import geometry
from tiny_ablation.aggregate.sweep.hypotheses import judge_hypotheses
from tiny_ablation.aggregate.sweep.invariants import find_invariants, ranking_metrics
from tiny_ablation.aggregate.sweep.matrices import write_matrices
from tiny_ablation.aggregate.sweep.summary import condition_warnings, sweep_summary
from tiny_ablation.config.sweep import sweep_config
from tiny_ablation.results.store import write_json
from tiny_ablation.results.sweepdir import SweepDir, read_plan


def aggregate(sweep_dir: Path) -> SweepOutcome:
    """See `aggregate_sweep`."""
    sweep, plan = SweepDir(sweep_dir), read_plan(sweep_dir)
    cfg = sweep_config(plan.settings)
    declared = check_hypotheses(cfg.hypotheses)
    states, children = collect(sweep, plan)
    outcome = SweepOutcome(sweep_dir, tuple(states), tuple(condition_warnings(plan, children)))
    grids = effect_grids(children)
    metrics = ranking_metrics(cfg, children)
    examples = [Examples(grid, [*metrics, *(h.metric for h in declared if h.metric)]) for grid in grids]
    files = write_matrices(sweep.cross, children, grids)
    content = {
        sweep.summary: sweep_summary(plan, outcome, children),
        sweep.cross / "invariants.json": find_invariants(grids, examples, cfg, metrics),
        sweep.cross / "hypotheses.json": judge_hypotheses(declared, grids, examples, cfg, metrics),
        sweep.cross / "geometry.json": geometry(grids, metrics),
    }
    files += [write_json(path, value) for path, value in content.items()]
    outcome = replace(outcome, files=tuple(files))
    write_sweep_manifest(outcome)
    return outcome
