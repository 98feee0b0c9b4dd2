"""Ablate what a sweep found conserved, all at once, on each of its conditions (`sweep.confirm=true`).

A set that was put together from single effects need not matter as a set: heads stand in for each other, or do the same thing
twice. So it is removed as a whole and compared with random sets of the same size in the same layers. Where a cell used
`dataset.split=dev`, this runs on `test`, which had no part in choosing the set; elsewhere on the cell's own examples, which
flatters the set.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiny_ablation.ablations.registry import run_spec
from tiny_ablation.models.labels import head_label
from tiny_ablation.run.spec import RunSpec
from tiny_ablation.store.files import read_json
from tiny_ablation.store.sweepdir import Cell, SweepDir, SweepPlan
from tiny_ablation.sweep.plan import adapt

SET = "conserved"


@dataclass(frozen=True)
class Confirmation:
    """One run that ablates the conserved heads of a cell's model.

    Attributes:
        cell: whose condition and seed it repeats.
        spec: what is run.
        dir: where to.
    """

    cell: Cell
    spec: RunSpec
    dir: Path


def confirmations(config_name: str, sweep: SweepDir, plan: SweepPlan) -> Iterator[Confirmation]:
    """The runs to make, one for each cell whose model has conserved heads.

    Args:
        config_name: of the root config, as Hydra gives it to callbacks.
        sweep: the sweep's directory, aggregated.
        plan: its plan.

    Raises:
        UserError: a cell's other settings do not go with `ablation=heads_set_zero`.
    """
    heads = read_json(sweep.cross / "invariants.json")["heads"]
    for cell in plan.cells:
        mine = [head for head in heads if head.get("model") in (None, _model(sweep, cell))]
        if mine and sweep.run(cell).summary.is_file():
            cfg = _compose(config_name, _overrides(cell, mine, int(plan.settings["n_control_sets"])))
            cfg.run.shards = 1  # this process makes it alone
            spec = run_spec(adapt(cfg, condition=cell.condition, models=plan.models))
            yield Confirmation(cell, spec, sweep.confirm(cell))


def _model(sweep: SweepDir, cell: Cell) -> str | None:
    summary = sweep.run(cell).summary
    return read_json(summary)["model"] if summary.is_file() else None


def _overrides(cell: Cell, heads: list[Mapping[str, Any]], n_random: int) -> list[str]:
    """The cell's own, with the ablation of the set in place of its ablation."""
    own = [each for each in cell.overrides if not each.lstrip("+").startswith("ablation")]
    held_out = ["dataset.split=test"] if "dataset.split=dev" in own else []
    listed = ",".join(head_label(head["layer"], head["head"]) for head in heads)
    return [
        *(each for each in own if not (held_out and each == "dataset.split=dev")),
        *held_out,
        "ablation=heads_set_zero",
        f"ablation.sets={{{SET}:[{listed}]}}",
        f"ablation.n_random={n_random}",
    ]


def _compose(config_name: str, overrides: list[str]) -> Any:
    from hydra.core.global_hydra import GlobalHydra
    from hydra.types import RunMode

    app = GlobalHydra.instance().hydra
    assert app is not None
    return app.compose_config(config_name, overrides, RunMode.RUN, from_shell=False)
