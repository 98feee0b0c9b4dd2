"""Train a sparse autoencoder on an activation of the model, and measure what splicing it in costs the behaviour.

Answers: can this activation be written as a sum of a few features each, and does the model still do what it does when it is?
The table holds the effect of putting the reconstruction in the place of the activation, beside that of setting it to zero, on
the prompts of the data set; `metrics/summary.json` has the quality on held-out text, and `sae/` the autoencoder, in SAELens'
format. Training is SAELens' own; see `tiny_ablation.sae.training`.

References: Bricken et al. 2023, "Towards monosemanticity"; Gao et al. 2024 (top-k); Bussmann et al. 2024 (batch top-k);
Rajamanoharan et al. 2024 (JumpReLU).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiny_ablation.ablations.sae.rows import SaeAblation, check_sae, is_named, quality_text, sae_row, sham_leg, untrained
from tiny_ablation.ablations.shared.replacements import Scale
from tiny_ablation.config.keys import key
from tiny_ablation.config.schema import AblationConfig
from tiny_ablation.errors import ConfigError
from tiny_ablation.run.plan import Arm, PlanContext, positions_key
from tiny_ablation.sae.corpus import content_id
from tiny_ablation.sae.loading import obtain
from tiny_ablation.sae.splice import Splice


@dataclass
class SaeTrainConfig(AblationConfig):
    """`ablation` keys of sae_train; the group `sae` says how to train."""

    positions: str = positions_key("where it is spliced in; all: but the first token")
    anew: bool = key(False, help="train even if this autoencoder is in the cache", identity=False)
    sae: Any = key("${sae}", help="set the group `sae`")


class SaeTrain(SaeAblation):
    """See the module."""

    name = "sae_train"
    table = "layer_impact"
    config = SaeTrainConfig
    draws = ("autoencoder",)

    def check(self, cfg: SaeTrainConfig) -> None:
        """Refuse recipes that cannot work, and autoencoders that are trained already."""
        check_sae(cfg.sae)
        if is_named(cfg.sae):
            raise ConfigError(
                "sae.path and sae.release name an autoencoder that is trained already; use it with ablation=sae_toggle"
            )

    def input_digest(self, cfg: SaeTrainConfig) -> str:
        """The identity of the text."""
        return content_id(cfg.sae.corpus)

    def plan(self, cfg: SaeTrainConfig, context: PlanContext) -> list[Arm]:
        """The reconstruction, zero, and the reconstruction with its error, which must change nothing."""
        planned = untrained(cfg.sae, context, anew=cfg.anew)
        autoencoder = planned or obtain(context.network, cfg.sae, context.seed, anew=cfg.anew)
        site = autoencoder.site

        def row_key(done: str) -> dict[str, int | str]:
            return {"layer": site.layer, "granularity": f"{site.component} {done}"}

        replacements = {"spliced": Splice(autoencoder, keep_error=False), "zeroed": Scale(0.0)}
        rows = [sae_row(autoencoder, row_key(done), r, cfg.positions, site.component) for done, r in replacements.items()]
        if planned:
            main = Arm(context.clean, rows, left_out=planned.cost)
        else:
            of = autoencoder.trained
            notes = {**of["quality"], "recipe": of["recipe"], "weights": autoencoder.identity}
            notes["text"] = quality_text(of["quality"])
            source = sorted(Path(autoencoder.source).iterdir())
            files = {f"sae/{path.name}": path for path in source if path.is_file()}
            main = Arm(context.clean, rows, notes={"sae": notes}, files=files)
        return [main, sham_leg(autoencoder, context, row_key("spliced"), cfg.positions)]
