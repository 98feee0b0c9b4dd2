"""Ablate what a sweep found conserved, all at once, on each of its conditions (`sweep.confirm=true`).

A set that was put together from single effects need not matter as a set: heads stand in for each other, or do the same thing
twice. So it is removed as a whole and compared with random sets of the same size in the same layers. Where a cell used
`dataset.split=dev`, this runs on `test`, which had no part in choosing the set; elsewhere on the cell's own examples, which
flatters the set.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from tiny_ablation.ablations.registry import run_spec
from tiny_ablation.models.labels import head_label
from tiny_ablation.run.spec import RunSpec
from tiny_ablation.store.files import read_json
from tiny_ablation.store.sweepdir import Cell, SweepDir, SweepPlan
from tiny_ablation.sweep.plan import adapt

SET = "conserved"


def confirmations(config_name: str, sweep: SweepDir, plan: SweepPlan) -> Iterator[tuple[Cell, RunSpec]]:
    """The runs to make, each with the cell whose condition and seed it repeats: all cells whose model has conserved heads.

    `config_name` is that of the root config, as Hydra gives it to callbacks; the sweep is aggregated.

    Raises:
        UserError: a cell's other settings do not go with `ablation=heads_set_zero`.
    """
    from hydra.core.global_hydra import GlobalHydra
    from hydra.types import RunMode

    app = GlobalHydra.instance().hydra
    assert app is not None
    heads = read_json(sweep.cross / "invariants.json")["heads"]
    for cell in plan.cells:
        summary = sweep.run(cell).summary
        model = read_json(summary)["model"] if summary.is_file() else None
        mine = [head for head in heads if head.get("model") in (None, model)]
        if mine and model:
            overrides = _overrides(cell, mine, int(plan.settings["n_control_sets"]))
            cfg: Any = app.compose_config(config_name, overrides, RunMode.RUN, from_shell=False)
            cfg.run.shards = 1  # this process makes it alone
            yield cell, run_spec(adapt(cfg, condition=cell.condition, models=plan.models))


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
