"""Optimal ablation: the constant that costs the behaviour least, learned on examples that are not evaluated.

Zero and the mean are values that the rest of the model may not expect, so their effects mix what the site does with how far
they lead the rest of the model astray. The best constant leads it astray least; what is still lost is what the site says about
the prompt (Li & Janson 2024, "Optimal ablation for interpretability").
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from tiny_ablation.ablations.shared.means import Mean, MeanAblation
from tiny_ablation.config.keys import key
from tiny_ablation.config.schema import AblationConfig
from tiny_ablation.document import Section, Table
from tiny_ablation.engine.edits import Lookup
from tiny_ablation.models.placed import weight_like
from tiny_ablation.run.plan import Analysis, LeftOut, PlanContext

if TYPE_CHECKING:
    from torch import Tensor

    from tiny_ablation.engine.constants import Learned
    from tiny_ablation.run.measure import Measured
    from tiny_ablation.run.prepare import PreparedRun

Place = tuple[str, int]
LOSSES = ("zero", "mean", "optimal")


@dataclass
class OptimalKeys(AblationConfig):
    """Keys of every kind that replaces by the best constant."""

    n_reference: int = key(32, help="at most so many examples to learn on, drawn from those that are not evaluated", least=1)
    steps: int = key(40, help="of gradient descent, from the mean", least=1)
    rate: float = key(
        0.05, help="the first step, as a share of the root mean square of what the site writes; falls to 0", above=0
    )


@dataclass(frozen=True, eq=False)
class LearnedTable(Lookup):
    """The constant of each unit, which every token takes."""

    tables: Mapping[Place, "Tensor"]  # for each place (1, units, width), with zeros for units that nothing was learned for
    # for each place the units that it was learned for, and what was learned
    learned: Mapping[Place, tuple[Sequence[int], "Learned"]]

    def row(self, example: int, position: int) -> int:  # noqa: ARG002
        """See `Lookup.row`."""
        return 0

    def values(self, component: str, layer: int) -> "Tensor":
        """See `Lookup.values`."""
        return self.tables[component, layer]


def plan_optimal(
    cfg: Any, context: PlanContext, sites: Mapping[Place, Sequence[int]]
) -> tuple[Mean, dict[str, Any], LeftOut | None]:
    """The replacement for these units of each place, notes for `summary.json`, and what an outline did not learn.

    Args:
        cfg: with the keys of `OptimalKeys`, and `positions`.
        context: the run; losses are also measured on as many of the examples that it evaluates.
        sites: the units of every place that are replaced.

    Raises:
        ConfigError: there are no examples to learn on.
    """
    import torch

    from tiny_ablation.engine.constants import Constants

    reference, held_out = context.reference(cfg.n_reference), context.clean[: cfg.n_reference]
    constants = Constants(context.network, reference.prompts, held_out, [*sites], cfg.positions, context.full)
    like, shape = weight_like(context.network.hf), context.shape
    tables, learned = {}, {}
    for place, units in sites.items():
        n = shape.n_units(place[0])
        tables[place] = torch.zeros(1, n, shape.width(place[0]) // n, dtype=like.dtype, device=like.device)
        if not context.outline:
            learned[place] = units, constants.learn(place, units, cfg.steps, cfg.rate)
            tables[place][0, list(units)] = learned[place][1].values
    replacement = Mean(LearnedTable(tables, learned), "optimal")
    if context.outline:
        sizes = [sum(w.numel() for w in block.parameters()) for block in context.network.blocks]
        tokens = sum(len(prompt.ids) for prompt in reference.prompts)
        passed = sum(len(units) * sum(sizes[layer:]) for (_, layer), units in sites.items())
        what = f"the constants of {sum(map(len, sites.values()))} sites are learned"
        # A forward pass takes two operations for each weight and token, a backward pass twice as many.
        return replacement, {}, LeftOut(what, 6.0 * cfg.steps * tokens * passed)
    means: dict[str, dict[str, float]] = {"losses": {}, "held_out": {}}  # over all sites
    for of, by_name in means.items():
        for name in LOSSES:
            losses = [loss for _, found in learned.values() for loss in getattr(found, of)[name].tolist()]
            by_name[name] = sum(losses) / len(losses)
    digest = sha256()  # of the constants in the precision in which they are put in
    for place in sorted(tables):
        digest.update(tables[place].cpu().contiguous().view(torch.uint8).numpy().tobytes())
    notes = {
        "reference": {**reference.composition, "steps": cfg.steps},
        "optimal": {"n_held_out": len(held_out), **means, "sha256": digest.hexdigest()},
    }
    return replacement, notes, None


class OptimalAblation(MeanAblation):
    """A kind whose constants are learned on a reference set; it reports the constants and their losses."""

    def analyse(self, prepared: "PreparedRun", measured: "Sequence[Measured]") -> Analysis:
        """`optimal`: a row a site with its constant, and the losses of zero, the mean and the constant on both sets."""
        import pandas as pd

        from tiny_ablation.run.id_columns import named

        table = measured[0].arm.rows[0].runs[0].edits[0].replacement.lookup
        assert isinstance(table, LearnedTable)
        records = [
            {
                "layer": layer,
                "component": component,
                "unit": unit,
                **{f"loss_{name}": found.losses[name][i].item() for name in LOSSES},
                **{f"held_out_{name}": found.held_out[name][i].item() for name in LOSSES},
                "constant": found.values[i].double().cpu().numpy(),
            }
            for (component, layer), (units, found) in table.learned.items()
            for i, unit in enumerate(units)
        ]
        frame = pd.DataFrame(records).astype({"layer": "int32", "unit": "int32"})
        return Analysis({"optimal": named(prepared, frame)})

    def sections(self, summary: Mapping[str, Any]) -> list[Section]:
        """What the constants cost, beside zero and the mean."""
        notes = summary.get("notes", {})
        if "optimal" not in notes:
            return []
        n = notes["reference"]["n"]
        text = (
            f"Each site gets the constant that costs least on {n} examples that are not evaluated, found by "
            f"{notes['reference']['steps']} steps of gradient descent from the mean; the loss is the divergence of the "
            "next-token distribution from the un-intervened one."
        )
        said = (("examples it was learned on", "losses"), (f"{notes['optimal']['n_held_out']} that are evaluated", "held_out"))
        rows = [[name, *(f"{notes['optimal'][of][loss]:.4f}" for loss in LOSSES)] for name, of in said]
        caption = "Loss in nats, mean over all sites."
        return [Section("Constants", [text], [Table(caption, ["loss on", *LOSSES], rows)])]
