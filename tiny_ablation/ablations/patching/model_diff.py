"""Put activations of one model into the run of another on the same prompt, one site at a time.

Answers: which parts carry what a tuned model does otherwise than its base (or one checkpoint than another)?
`tuned_to_base` runs the base with a value of the tuned model: what it recovers of the difference. `base_to_tuned` runs the
tuned model with a value of the base: what is lost of it (cross-model activation patching: Prakash et al. 2024, "Fine-tuning
enhances existing mechanisms"). Both models must have the same places and read the same tokens.

With `take=activations` a value is what the part has in the other model's own run, so a part may hand on what parts before
it do otherwise. With `take=weights` it is what the part of the other model makes of what enters it in the run at hand: what
its own weights do otherwise, and exactly nothing where they are the same. The residual stream at all tokens is all that a
block hands on: with activations it puts the one model's first blocks before the other's last ones, with weights it
replaces one block.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from tiny_ablation.ablations.patching.patch_ablation import COMPONENTS, MODELS, PatchAblation, refuse_heads_of_layers, units
from tiny_ablation.ablations.shared.prompt_pairs import require_mark
from tiny_ablation.ablations.shared.replacements import Patch
from tiny_ablation.ablations.shared.sites import chosen_layers
from tiny_ablation.config.keys import key
from tiny_ablation.config.schema import AblationConfig, ModelConfig, ModelSource
from tiny_ablation.document import Section
from tiny_ablation.engine.edits import Edit, Intervention
from tiny_ablation.errors import ConfigError
from tiny_ablation.run.plan import Analysis, Arm, InterventionSpec, Key, PlanContext, Row

if TYPE_CHECKING:
    from tiny_ablation.models.network import Network
    from tiny_ablation.run.measure import Measured
    from tiny_ablation.run.prepare import PreparedRun


class Part(Enum):
    """What is put into the other model at a time."""

    head_out = "head_out"
    mlp_out = "mlp_out"
    attn_out = "attn_out"
    layer_resid = "layer_resid"


class Take(Enum):
    """activations: of the other model's own run; weights: what its part makes of the input in the run at hand."""

    activations = "activations"
    weights = "weights"


class Way(Enum):
    """Whose values go where: tuned_to_base recovers the difference, base_to_tuned loses it."""

    tuned_to_base = "tuned_to_base"
    base_to_tuned = "base_to_tuned"
    both = "both"


@dataclass
class ModelDiffConfig(AblationConfig):
    """`ablation` keys of model_diff."""

    tuned: ModelConfig = key(
        ModelConfig, help="the second model, of which `model` is the base: `ablation.tuned.path` and so on"
    )
    granularity: Part = key(Part.head_out)
    take: Take = key(Take.activations)
    direction: Way = key(Way.both)
    positions: str = key("all", help="the tokens that are patched", choices=("all", "after_first", "last", "subject"))
    layers: list[int] | None = key(None, help="null: all")
    heads: list[int] | None = key(None, help="for head_out; null: all")


@dataclass(frozen=True, eq=False)
class FromModel(Patch):
    """What another model has at the same place on the same prompt."""

    network: "Network | None" = None
    within: Intervention | None = None  # what is done to its run before that, or None


class ModelDiff(PatchAblation):
    """See the module."""

    name = "model_diff"
    table = "layer_impact"
    config = ModelDiffConfig
    ends = MODELS

    def check(self, cfg: ModelDiffConfig) -> None:
        """Refuse a second model that is not named, and heads where layers are patched."""
        if cfg.tuned.source is ModelSource.local and not cfg.tuned.path:
            raise ConfigError(
                "ablation=model_diff compares two models, and the second one is not named: give ablation.tuned.path=DIR, or "
                "another option of the group with its keys: model@ablation.tuned=hub ablation.tuned.id=OWNER/NAME"
            )
        refuse_heads_of_layers(cfg)

    def table_of(self, cfg: ModelDiffConfig) -> str:
        """One row a head for `head_out`, else a layer."""
        return "head_impact" if cfg.granularity is Part.head_out else "layer_impact"

    def other_model(self, cfg: ModelDiffConfig) -> ModelConfig:
        """The tuned one."""
        return cfg.tuned

    def plan(self, cfg: ModelDiffConfig, context: PlanContext) -> list[Arm]:
        """One arm a direction; with one direction, the other model runs too, to say what share is recovered."""
        assert context.other is not None
        if cfg.positions == "subject":
            require_mark(context.clean, "subject", "ablation.positions=subject")
        models = {"base": context.network, "tuned": context.other}
        arms, bare = [], []
        for way in (Way.tuned_to_base, Way.base_to_tuned):
            source, target = way.value.split("_to_")
            runs = context.other if target == "tuned" else None
            if cfg.direction in (way, Way.both):
                rows = _rows(cfg, context, models[source], models[target], way.value)
                arms.append(Arm(context.clean, rows, f"the {target} model, un-patched", target, network=runs))
            else:
                bare.append(Arm(context.clean, [], run=target, in_table=False, network=runs))
        return [*arms, *bare]

    def analyse(self, prepared: "PreparedRun", measured: "Sequence[Measured]") -> Analysis:
        """Which sites carry the difference, and at which block it arises, as far as that was measured."""
        from tiny_ablation.ablations.patching.carriers import analyse

        return analyse(prepared, measured)

    def sections(self, summary: Mapping[str, Any]) -> list[Section]:
        """The same in words."""
        from tiny_ablation.ablations.patching.carriers import sections

        return sections(summary)


def _rows(cfg: ModelDiffConfig, context: PlanContext, source: "Network", target: "Network", way: str) -> list[Row]:
    component, shape = COMPONENTS[cfg.granularity.value], context.shape
    ids = tuple(prompt.ids for prompt in context.clean)
    lengths = tuple(map(len, ids))
    own, whole = FromModel(ids, lengths, target), FromModel(ids, lengths, source)
    rows = []
    for layer in chosen_layers(cfg.layers, shape, component):
        value = whole
        if cfg.take is Take.weights:  # of what enters the part in the run at hand
            inputs = [("resid_pre", layer)]
            if component == "mlp_out" and layer in shape.layers_with("attn_out"):
                inputs.append(("attn_out", layer))
            entering = Intervention(tuple(Edit(*place, None, own) for place in inputs))
            value = FromModel(ids, lengths, source, entering)
        for unit in units(cfg, shape):
            kind = cfg.granularity.value if unit is None else "head"
            site: Key = {"granularity": kind} if unit is None else {"head": unit, "scale": 0.0}
            edit = Edit(component, layer, unit, value, cfg.positions)
            described = InterventionSpec(kind, component, f"patch {cfg.take.value}", cfg.positions, way)
            rows.append(Row({"layer": layer, **site}, Intervention((edit,)), described))
    return rows
