"""What all ablations share that put values of one run into another."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from tiny_ablation.document import Figure, Section
from tiny_ablation.run.plan import Ablation, Analysis

if TYPE_CHECKING:
    from tiny_ablation.run.measure import Measured
    from tiny_ablation.run.prepare import PreparedRun
    from tiny_ablation.run.result import Result


Ends = tuple[str, str]  # what `Arm.run` calls the run of share 0 and that of share 1
PAIR: Ends = ("corrupt", "clean")
MODELS: Ends = ("base", "tuned")


class PatchAblation(Ablation):
    """Values of one run put into another; where both ends of a pair run, the share that is recovered is told.

    Attributes:
        ends: what the arms call the run of share 0 and that of share 1.
    """

    ends: ClassVar[Ends] = PAIR

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
        told = {
            "entry": answers.entry(prepared, measured),
            "restoring_and_breaking": answers.balance(found, prepared.spec.settings.root.stats.confidence),
        }
        tables = {} if found is None else {"asymmetry": found}
        return Analysis(tables, summary={name: each for name, each in told.items() if each is not None})

    def sections(self, summary: Mapping[str, Any]) -> list[Section]:
        """The same in words; where both were asked, the headline is that of restoring against breaking."""
        from tiny_ablation.ablations.patching import answers

        return [*answers.balance_sections(summary.get("restoring_and_breaking")), *answers.entry_sections(summary.get("entry"))]

    def figures(self, result: "Result") -> "Iterable[Figure]":
        """The map of positions by layers, and restoring against breaking."""
        from tiny_ablation.ablations.patching.figures import figures

        return figures(result, self.effect_name)
