"""What all ablations share that put values of one run into another."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from tiny_ablation.ablations.shared.sites import chosen_heads
from tiny_ablation.document import Figure, Section
from tiny_ablation.errors import ConfigError
from tiny_ablation.models.hookpoints import ModelShape
from tiny_ablation.run.plan import Ablation, Analysis

if TYPE_CHECKING:
    from tiny_ablation.run.measure import Measured
    from tiny_ablation.run.prepare import PreparedRun
    from tiny_ablation.run.result import Result


Ends = tuple[str, str]  # what `Arm.run` calls the run of share 0 and that of share 1
PAIR: Ends = ("corrupt", "clean")
MODELS: Ends = ("base", "tuned")
# By `ablation.granularity`, the hook point that is written to.
COMPONENTS = {"layer_resid": "resid_post", "mlp_out": "mlp_out", "attn_out": "attn_out", "head_out": "z"}


class PatchAblation(Ablation):
    """Values of one run put into another; where both ends of a pair run, the share that is recovered is reported."""

    ends: ClassVar[Ends] = PAIR  # what the arms call the run of share 0 and that of share 1

    on_text = False  # what is recovered is a share of a change of logits

    def shares(self, prepared: "PreparedRun", arms: "Sequence[Measured]") -> "Iterable[tuple[Measured, Mapping[str, Any]]]":
        """`recovered`."""
        from tiny_ablation.ablations.patching.recovered import recovered

        return recovered(prepared, arms, self.ends)

    def analyse(self, prepared: "PreparedRun", measured: "Sequence[Measured]") -> Analysis:
        """Where the answer enters the residual stream, and restoring against breaking, as far as that was measured."""
        from tiny_ablation.ablations.patching import answers
        from tiny_ablation.ablations.patching.recovered import asymmetry

        found = asymmetry(prepared, measured)
        summary = {
            "entry": answers.entry(prepared, measured),
            "restoring_and_breaking": answers.balance(found, prepared.spec.settings.root.stats.confidence),
        }
        tables = {} if found is None else {"asymmetry": found}
        return Analysis(tables, summary={name: each for name, each in summary.items() if each is not None})

    def sections(self, summary: Mapping[str, Any]) -> list[Section]:
        """The same in words; where both were asked, the headline is that of restoring against breaking."""
        from tiny_ablation.ablations.patching import answers

        return [*answers.balance_sections(summary.get("restoring_and_breaking")), *answers.entry_sections(summary.get("entry"))]

    def figures(self, result: "Result") -> "Iterable[Figure]":
        """The map of positions by layers, and restoring against breaking."""
        from tiny_ablation.ablations.patching.figures import figures

        return figures(result, self.effect_name)


def refuse_heads_of_layers(cfg: Any) -> None:
    """Refuse `ablation.heads` where whole layers are patched.

    Raises:
        ConfigError: with the key.
    """
    if cfg.heads is not None and cfg.granularity.value != "head_out":
        raise ConfigError(
            f"ablation.heads is set, but ablation.granularity={cfg.granularity.value} patches whole layers; "
            "set ablation.granularity=head_out, or leave ablation.heads out"
        )


def units(cfg: Any, shape: ModelShape) -> Sequence[int | None]:
    """The heads of each layer that a config names; None where a layer is patched as a whole."""
    if cfg.granularity.value != "head_out":
        return [None]
    return chosen_heads(cfg.heads, shape)
