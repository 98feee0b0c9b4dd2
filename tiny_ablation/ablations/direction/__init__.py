"""Directions in the residual stream: take one out, add it or scale it, at one layer or at all of them.

The direction of a layer is the difference of means between clean and corrupt prompts of examples that are not evaluated, as the
stream leaves the layer (Marks & Tegmark 2024, "The geometry of truth"; Arditi et al. 2024, "Refusal in language models is
mediated by a single direction"), or it comes from a file. `project_out` removes what a token has along it, `scale` multiplies
that, `add` adds the whole difference times a factor. An effect says that the answer can be moved along this direction, not that
the model computes with it: any push off the paths that the model knows does some harm. So every layer has random directions of
the same length beside it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiny_ablation.ablations.direction.found import differences, given
from tiny_ablation.ablations.direction.vectors import SITE, Along, OneDirection, Operation, Random
from tiny_ablation.ablations.shared.prompt_pairs import require_mark
from tiny_ablation.ablations.shared.sites import chosen_layers
from tiny_ablation.config.keys import key
from tiny_ablation.config.schema import AblationConfig
from tiny_ablation.document import Section
from tiny_ablation.engine.edits import Edit, Intervention
from tiny_ablation.errors import ConfigError
from tiny_ablation.models.hookpoints import ModelShape
from tiny_ablation.run.plan import Ablation, Analysis, Arm, InterventionSpec, PlanContext, Row
from tiny_ablation.sae.corpus import content_id
from tiny_ablation.store.ledger import sha256_file

if TYPE_CHECKING:
    from tiny_ablation.run.measure import Measured
    from tiny_ablation.run.prepare import PreparedRun


@dataclass
class DirectionConfig(AblationConfig):
    """`ablation` keys of direction."""

    operation: Operation = key(Operation.project_out)
    factor: float = key(1.0, help="add: how often the direction is added; scale: by what a token's part along it is multiplied")
    layers: list[int] | None = key(None, help="whose directions; null: all")
    everywhere: bool = key(False, help="project out or scale the direction of each layer at all layers, not only at its own")
    positions: str = key("all", help="the tokens that are intervened on", choices=("all", "after_first", "last", "subject"))
    read_at: str = key("last", help="the tokens that the means are taken over", choices=("last", "all"))
    n_reference: int = key(256, help="at most so many pairs for the means, drawn from those that are not evaluated", least=1)
    n_random: int = key(20, help="random directions of the same length to compare each with; 0 for none", least=0)
    n_text: int = key(
        16, help="passages of unrelated text (Python's documentation) on which the KL is told besides; 0: none", least=0
    )
    file: str | None = key(
        None, help="a safetensors file with the directions instead: (d_model,) for all layers, or (layers, d_model)"
    )
    tensor: str = key("direction", help="the name of the tensor in the file")


class Direction(Ablation):
    """See the module."""

    name = "direction"
    table = "layer_impact"
    config = DirectionConfig

    def check(self, cfg: DirectionConfig) -> None:
        """Refuse keys that contradict each other, and a file that is not there."""
        if cfg.operation is Operation.project_out and cfg.factor != 1:
            raise ConfigError(
                f"ablation.factor={cfg.factor:g}: project_out takes the whole part out; set ablation.operation=scale or add"
            )
        if cfg.operation is Operation.add and cfg.everywhere:
            raise ConfigError(
                "ablation.everywhere=true is for project_out and scale; what is added at one layer is handed on by the layers "
                "behind it"
            )
        if cfg.file is not None and not Path(cfg.file).expanduser().is_file():
            raise ConfigError(f"ablation.file={cfg.file}: there is no such file")

    def input_digest(self, cfg: DirectionConfig) -> str:
        """The checksum of the file, and which text it is."""
        file = "" if cfg.file is None else sha256_file(Path(cfg.file).expanduser())
        return f"{file} {content_id(None)}".strip() if cfg.n_text else file

    def random_components(self, cfg: DirectionConfig, n_rest: int) -> tuple[str, ...]:
        """The pairs for the means, where not all of the rest are taken."""
        return ("reference",) if cfg.file is None and n_rest > cfg.n_reference else ()

    def plan(self, cfg: DirectionConfig, context: PlanContext) -> list[Arm]:
        """An arm with the direction of each layer, and one for the random directions of each."""
        if cfg.positions == "subject":
            require_mark(context.clean, "subject", "ablation.positions=subject")
        layers = chosen_layers(cfg.layers, context.shape, SITE)
        if cfg.file is None:
            found, notes = differences(cfg.n_reference, cfg.read_at, context, layers)
        else:
            found, notes = given(cfg.file, cfg.tensor, context, layers)
        rows = [_row(cfg, layer, it, context.shape, "direction") for layer, it in found.items()]
        controls = []
        for layer, it in found.items() if cfg.n_random else ():
            random = {f"random direction {n}": Random(it, context.seed, (layer, n)) for n in range(cfg.n_random)}
            drawn = [_row(cfg, layer, one, context.shape, name) for name, one in random.items()]
            controls.append(Arm(context.clean, drawn, in_table=False, controls_of=f"L{layer}"))
        return [Arm(context.clean, rows, notes={"directions": notes}), *controls]

    def analyse(self, prepared: "PreparedRun", measured: "Sequence[Measured]") -> Analysis:
        """Each layer's effect among those of its random directions."""
        from tiny_ablation.ablations.direction.compared import analyse

        return analyse(prepared, measured)

    def sections(self, summary: Mapping[str, Any]) -> list[Section]:
        """Where the directions come from, and their effects beside those of random ones."""
        from tiny_ablation.ablations.direction.compared import sections

        return sections(summary)


def _row(cfg: DirectionConfig, layer: int, direction: OneDirection, shape: ModelShape, name: str) -> Row:
    along = Along(cfg.operation, cfg.factor, direction)
    places = [("resid_pre", 0), *((SITE, at) for at in range(shape.n_layers))] if cfg.everywhere else [(SITE, layer)]
    return Row(
        key={"layer": layer, "granularity": name},
        intervention=Intervention(tuple(Edit(*place, None, along, cfg.positions) for place in places)),
        described=InterventionSpec(
            "direction", SITE, along.name, cfg.positions, "clean", "all layers" if cfg.everywhere else "single"
        ),
        sites=name,
    )


ABLATIONS = (Direction(),)
