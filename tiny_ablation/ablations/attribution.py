"""Estimate every head, MLP or neuron from gradients, and measure some exactly, to judge the estimates by.

Answers: which of very many sites are worth measuring? An estimate is a first-order guess of what zero ablation (or patching)
would do: it costs a few backward passes for all sites, and it is wrong where the model is far from linear, as in the first
layers and in saturated attention. The impact table holds exact effects only, of the strongest estimates and of a random
sample; all estimates are in `metrics/attribution.parquet`, and `metrics/summary.json` says how the two compare.

References: Nanda 2023, "Attribution patching"; Syed et al. 2023; Hanna et al. 2024, "Have faith in faithfulness".
"""

from dataclasses import dataclass

from tiny_ablation.ablations.shared.replacements import Scale, patch_from
from tiny_ablation.ablations.shared.screening import EstimatedAblation, keep_chosen
from tiny_ablation.ablations.shared.sites import chosen_layers
from tiny_ablation.config.keys import key
from tiny_ablation.config.schema import AblationConfig
from tiny_ablation.engine.edits import Edit, Intervention
from tiny_ablation.run.plan import Arm, InterventionSpec, Key, PlanContext, Row, positions_key

TABLES = {"z": "head_impact", "mlp_out": "layer_impact", "neurons": "feature_impact"}


@dataclass
class AttributionConfig(AblationConfig):
    """`ablation` keys of attribution."""

    component: str = key("z", help="z: heads; mlp_out: MLPs", choices=tuple(TABLES))
    layers: list[int] | None = key(None, help="null: all")
    positions: str = positions_key()
    replacement: str = key("zero", help="patch: the corrupt prompt's value", choices=("zero", "patch"))
    method: str = key(
        "gradient", help="gradient: one backward pass; integrated: steps of every layer", choices=("gradient", "integrated")
    )
    steps: int = key(5, help="of the integrated form", least=1)
    top: int = key(16, help="strongest estimates that are measured exactly", least=1)
    random: int = key(16, help="random sites that are measured exactly, by which the estimates are judged", least=3)


class Attribution(EstimatedAblation):
    """See the module."""

    name = "attribution"
    table = "head_impact"
    config = AttributionConfig
    draws = ("random sites",)
    on_text = False
    confirmable = False  # its sites are chosen by estimates on the examples at hand

    def table_of(self, cfg: AttributionConfig) -> str:
        """By what the sites are; a neuron stands where a feature would."""
        return TABLES[cfg.component]

    def plan(self, cfg: AttributionConfig, context: PlanContext) -> list[Arm]:
        """The strongest estimates and a random sample of all sites."""
        zero = cfg.replacement == "zero"
        replacement = Scale(0.0) if zero else patch_from(context.corrupt, context.clean)
        what = {"z": "head", "neurons": "neuron"}.get(cfg.component, cfg.component)
        direction = "clean" if zero else "corrupt_to_clean"
        described = InterventionSpec(what, cfg.component, replacement.name, cfg.positions, direction)
        rows = []
        for layer in chosen_layers(cfg.layers, context.shape, cfg.component):
            for unit in range(context.shape.n_units(cfg.component)):
                if cfg.component == "mlp_out":
                    row_key: Key = {"layer": layer, "granularity": "mlp_out"}
                else:
                    row_key = {"layer": layer, "head" if cfg.component == "z" else "feature": unit, "scale": 0.0}
                at = None if cfg.component == "mlp_out" else unit
                edit = Edit(cfg.component, layer, at, replacement, cfg.positions)
                rows.append(Row(row_key, Intervention((edit,)), described))
        steps = cfg.steps if cfg.method == "integrated" else 0
        return [keep_chosen(Arm(context.clean, rows), cfg.top, cfg.random, context, steps=steps)]


ABLATIONS = (Attribution(),)
