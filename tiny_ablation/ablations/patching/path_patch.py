"""Put a head's value from the corrupt prompt into the clean run, and let it act on one place only.

Answers: which heads write what another head reads? The sender's z is the corrupt run's; every other head, and unless
`through_mlps` every MLP, is frozen at its clean value, so that the change reaches the receivers along the residual stream
alone. What the receivers then get as queries, keys or values is put into a clean run (Wang et al. 2022, section 3 and
appendix B; Goldowsky-Dill et al. 2023). With the final residual stream as the receiver one run is enough. Exact: real forward
passes, no linearisation. Costs, for a sender at block l, the blocks from l on, and with receiving heads those behind them too.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from tiny_ablation.ablations.patching.activation_patch import Unequal
from tiny_ablation.ablations.patching.patch_ablation import PatchAblation
from tiny_ablation.ablations.shared import prompt_pairs
from tiny_ablation.ablations.shared.replacements import FromEdited, Patch, patch_from
from tiny_ablation.ablations.shared.sites import Head, chosen_heads, chosen_layers, parse_head
from tiny_ablation.config.keys import key
from tiny_ablation.config.schema import AblationConfig
from tiny_ablation.engine.edits import Edit, Intervention
from tiny_ablation.errors import ConfigError
from tiny_ablation.models.hookpoints import ModelShape
from tiny_ablation.models.labels import head_label
from tiny_ablation.run.plan import Arm, InterventionSpec, PlanContext, Row, positions_key


class Input(Enum):
    """Which input of a receiving head the path ends in."""

    q = "q"
    k = "k"
    v = "v"


@dataclass
class PathPatchConfig(AblationConfig):
    """`ablation` keys of path_patch."""

    receivers: list[Any] | None = key(
        None, help="heads (key/value heads where input is k or v), such as [L5H2, L9H9]; null: the final residual stream"
    )
    input: Input = key(Input.q)
    layers: list[int] | None = key(None, help="of the sending heads; null: all")
    heads: list[int] | None = key(None, help="the sending heads of each layer; null: all")
    positions: str = positions_key("where the sending head is patched")
    through_mlps: bool = key(False, help="the path may go through MLPs, which are then not frozen")
    unequal: Unequal = key(Unequal.refuse)


class PathPatch(PatchAblation):
    """See the module."""

    name = "path_patch"
    table = "head_impact"
    config = PathPatchConfig

    def excluded_examples(self, cfg: PathPatchConfig, context: PlanContext) -> Mapping[int, str]:
        """Pairs of unequal lengths, where that matters and the config asks to skip them."""
        return prompt_pairs.unequal(context) if cfg.unequal is Unequal.skip and cfg.positions == "all" else {}

    def plan(self, cfg: PathPatchConfig, context: PlanContext) -> list[Arm]:
        """A row a sending head that has a path to a receiver; the corrupt run only to say what share is recovered."""
        prompt_pairs.require_corrupt(context, "ablation=path_patch")
        if cfg.positions == "all":
            prompt_pairs.require_equal(context, "ablation.positions=all", advice="ablation.unequal=skip leaves them out")
        if context.full:
            raise ConfigError(
                "ablation=path_patch with metrics.span=full: the answer's own tokens have no counterpart to be frozen at; "
                "use metrics.span=first"
            )
        shape, receivers = context.shape, _receivers(cfg, context.shape)
        corrupt, frozen = patch_from(context.corrupt, context.clean), patch_from(context.clean, context.clean)
        end = "the final residual stream"
        if receivers is not None:
            end = " ".join(f"{head_label(*head)}.{cfg.input.value}" for head in receivers)
        described = InterventionSpec("head", "z", "patch", cfg.positions, "corrupt_to_clean", f"path to {end}")
        rows = []
        for layer in chosen_layers(cfg.layers, shape, "z"):
            for head in chosen_heads(cfg.heads, shape):
                if receivers is None:
                    path = _direct(cfg, (layer, head), shape.n_layers, corrupt, frozen)
                elif layer < receivers[-1][0]:  # those behind the sender get what they get along the direct path
                    first = _direct(cfg, (layer, head), receivers[-1][0], corrupt, frozen)
                    recorded = FromEdited(frozen.sources, frozen.lengths, first)
                    behind = [receiver for receiver in receivers if receiver[0] > layer]
                    path = Intervention(tuple(Edit(cfg.input.value, *receiver, recorded) for receiver in behind))
                else:
                    continue
                # As everywhere, scale is the share of the head's own output that is kept: none.
                rows.append(Row({"layer": layer, "head": head, "scale": 0.0}, path, described))
        if not rows:
            raise ConfigError("ablation.layers: no sending head lies before a receiver, so there is no path to patch")
        return [Arm(context.clean, rows), Arm(context.corrupt, [], run="corrupt", in_table=False)]


def _direct(cfg: PathPatchConfig, sender: Head, end: int, corrupt: Patch, frozen: Patch) -> Intervention:
    """The sender patched, and all that could carry its change on before block `end` frozen."""
    layer, head = sender
    edits = [Edit("z", layer, head, corrupt, cfg.positions)]
    for later in range(layer, end):
        if later > layer:
            edits.append(Edit("z", later, None, frozen))
        if not cfg.through_mlps:
            edits.append(Edit("mlp_out", later, None, frozen))
    return Intervention(tuple(edits))


def _receivers(cfg: PathPatchConfig, shape: ModelShape) -> list[Head] | None:
    """The receiving heads, first layer first.

    Raises:
        ConfigError: the model has no such head, or a head is named twice.
    """
    if cfg.receivers is None:
        return None
    heads = sorted(parse_head(value, shape, "ablation.receivers") for value in cfg.receivers)
    units = shape.n_units(cfg.input.value)
    beyond = [head for head in heads if head[1] >= units]
    if beyond:
        raise ConfigError(
            f"ablation.receivers: {head_label(*beyond[0])}: with ablation.input={cfg.input.value} receivers are "
            f"key/value heads, and this model has {units} a layer"
        )
    if len(set(heads)) < len(heads):
        raise ConfigError(f"ablation.receivers={list(cfg.receivers)} names a head more than once")
    return heads
