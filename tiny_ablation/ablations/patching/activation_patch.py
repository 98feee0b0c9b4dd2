"""Put activations of one prompt of a pair into the run of the other, one site at a time.

Answers: where does the difference between the two prompts live? `clean_to_corrupt` runs the corrupt prompt and restores clean
values: what is sufficient. `corrupt_to_clean` runs the clean prompt and breaks it: what is necessary (Heimersheim & Nanda 2024,
"How to use and interpret activation patching"). `recovered` is the share of the clean run's advantage that the patched run has:
near 1 means restored, or not broken.

The residual stream is taken as it leaves a block (resid_post), so at the last block and the last token it is the source run.
The whole of it at all positions would be the source run at every block, and is refused.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from tiny_ablation.ablations.patching.patch_ablation import COMPONENTS, PatchAblation, refuse_heads_of_layers, units
from tiny_ablation.ablations.shared import prompt_pairs
from tiny_ablation.ablations.shared.replacements import Patch, patch_from
from tiny_ablation.ablations.shared.sites import chosen_layers
from tiny_ablation.config.keys import key
from tiny_ablation.config.schema import AblationConfig
from tiny_ablation.engine.edits import Edit, Intervention, PositionSpec
from tiny_ablation.errors import ConfigError
from tiny_ablation.run.plan import Arm, InterventionSpec, Key, PlanContext, Row


class Granularity(Enum):
    """What is patched at a time."""

    layer_resid = "layer_resid"
    mlp_out = "mlp_out"
    attn_out = "attn_out"
    head_out = "head_out"


class PatchPositions(Enum):
    """The tokens that are patched; `each` patches one at a time."""

    last = "last"
    all = "all"
    subject = "subject"
    each = "each"


class Direction(Enum):
    """Whose values go where: clean_to_corrupt restores, corrupt_to_clean breaks."""

    clean_to_corrupt = "clean_to_corrupt"
    corrupt_to_clean = "corrupt_to_clean"
    both = "both"


class Unequal(Enum):
    """What to do with pairs whose prompts have unequal numbers of tokens."""

    refuse = "refuse"
    skip = "skip"


@dataclass
class ActivationPatchConfig(AblationConfig):
    """`ablation` keys of activation_patch."""

    granularity: Granularity = key(Granularity.layer_resid)
    positions: PatchPositions = key(PatchPositions.last)
    direction: Direction = key(Direction.clean_to_corrupt)
    layers: list[int] | None = key(None, help="null: all")
    heads: list[int] | None = key(None, help="for head_out; null: all")
    unequal: Unequal = key(Unequal.refuse)
    self_patch: bool = key(False, help="patch every run with itself, which must change nothing")


class ActivationPatch(PatchAblation):
    """See the module."""

    name = "activation_patch"
    table = "layer_impact"
    config = ActivationPatchConfig

    def check(self, cfg: ActivationPatchConfig) -> None:
        """Refuse heads where layers are patched, and what is the source run whatever the model is."""
        refuse_heads_of_layers(cfg)
        if cfg.granularity is Granularity.layer_resid and cfg.positions is PatchPositions.all and not cfg.self_patch:
            raise ConfigError(
                "ablation.granularity=layer_resid with ablation.positions=all: the whole residual stream at all positions is "
                "all that a layer hands on, so every layer would give the source run itself; choose ablation.positions=last, "
                "subject or each, or another ablation.granularity"
            )

    def table_of(self, cfg: ActivationPatchConfig) -> str:
        """One row a token for `each`, a head for `head_out`, else a layer."""
        if cfg.positions is PatchPositions.each:
            return "position_impact"
        return "head_impact" if cfg.granularity is Granularity.head_out else "layer_impact"

    def excluded_examples(self, cfg: ActivationPatchConfig, context: PlanContext) -> Mapping[int, str]:
        """Pairs of unequal lengths, where that matters and the config asks to skip them."""
        if cfg.unequal is Unequal.refuse or cfg.positions is PatchPositions.last:
            return {}
        return prompt_pairs.unequal(context)

    def plan(self, cfg: ActivationPatchConfig, context: PlanContext) -> list[Arm]:
        """One arm a direction; with one direction, the other end is run too, to say what share is recovered."""
        what = f"ablation.positions={cfg.positions.value}"
        prompt_pairs.require_corrupt(context, "ablation=activation_patch")
        if cfg.positions is not PatchPositions.last:
            prompt_pairs.require_equal(context, what, advice="ablation.unequal=skip leaves them out")
        if cfg.positions is PatchPositions.subject:
            prompt_pairs.require_mark([*context.clean, *context.corrupt], "subject", what)
        ends = {"clean": context.clean, "corrupt": context.corrupt}
        arms, bare = [], []
        for direction in (Direction.clean_to_corrupt, Direction.corrupt_to_clean):
            source, target = direction.value.split("_to_")
            if cfg.direction in (direction, Direction.both):
                source = target if cfg.self_patch else source
                rows = _rows(cfg, context, patch_from(ends[source], ends[target]), f"{source}_to_{target}")
                baseline = f"the {target} prompt, un-patched"
                arms.append(Arm(ends[target], rows, baseline, run=target, self_patch=cfg.self_patch))
            else:
                bare.append(Arm(ends[target], [], run=target, in_table=False))
        return [*arms, *bare]


def _rows(cfg: ActivationPatchConfig, context: PlanContext, patch: Patch, direction: str) -> list[Row]:
    """A row for each layer, head and token that is patched.

    With `each`, tokens are counted from the first on, or from the last back where lengths differ. A token that some prompt does
    not have would be an effect of 0 in its mean, so only those that all have are patched.
    """
    each, site = cfg.positions is PatchPositions.each, cfg.granularity.value
    component, shape = COMPONENTS[site], context.shape
    places: Sequence[PositionSpec] = [cfg.positions.value]
    if each:
        lengths = {len(p.ids) for p in context.clean}
        places = range(min(lengths)) if len(lengths) == 1 else range(-min(lengths), 0)
    rows = []
    for layer in chosen_layers(cfg.layers, shape, component):
        for unit in units(cfg, shape):
            for place in places:
                if each:
                    named = site if unit is None else f"{site}[{unit}]"
                    row_key: Key = {"layer": layer, "position": str(place), "granularity": named}
                elif unit is None:
                    row_key = {"layer": layer, "granularity": site}
                else:  # as everywhere, scale is the share of the head's own output that is kept: none
                    row_key = {"layer": layer, "head": unit, "scale": 0.0}
                edit = Edit(component, layer, unit, patch, place)
                kind = site if unit is None else "head"
                described = InterventionSpec(kind, component, patch.name, cfg.positions.value, direction)
                rows.append(Row(row_key, Intervention((edit,)), described))
    return rows
