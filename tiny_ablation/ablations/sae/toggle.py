"""Switch features of a sparse autoencoder off, one at a time: scale them, or add them to every token.

Answers: which features does the behaviour depend on? Candidates are the features that gradients expect to matter, that write
most on these prompts, and that tell clean from corrupt prompts; their effects are exact. What the autoencoder does not explain
stays in the run (`error_term=keep`), so an effect is that of the feature alone: with `drop`, the run continues from the
reconstruction, which is then the baseline. Beside the features are measured: random ones, ones that are active as often and
write as much, and the reconstruction with no feature touched.

References: Marks et al. 2024, "Sparse feature circuits" (error terms); Cunningham et al. 2023.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tiny_ablation.ablations.sae.rows import (
    NOTHING,
    SaeAblation,
    check_sae,
    is_named,
    quality_text,
    sae_row,
    sham_leg,
    spec,
    untrained,
)
from tiny_ablation.ablations.shared.sites import chosen
from tiny_ablation.config.keys import key
from tiny_ablation.config.schema import AblationConfig
from tiny_ablation.engine.edits import Replacement
from tiny_ablation.errors import ConfigError
from tiny_ablation.run.plan import Arm, PlanContext, Row, positions_key
from tiny_ablation.sae.autoencoder import Autoencoder
from tiny_ablation.sae.corpus import content_id
from tiny_ablation.sae.loading import inputs, obtain
from tiny_ablation.sae.splice import AddFeature, ScaleFeature, Splice

if TYPE_CHECKING:
    from tiny_ablation.run.measure import Measured
    from tiny_ablation.run.prepare import PreparedRun

SPLICE, RANDOM, MATCHED = "splice", "random features", "matched features"


@dataclass
class SaeToggleConfig(AblationConfig):
    """`ablation` keys of sae_toggle; the group `sae` says which autoencoder."""

    features: list[int] | None = key(None, help="null: candidates")
    candidates: int = key(24, help="how many, by attribution, activation and clean-corrupt difference in turns", least=1)
    mode: str = key(
        "scale",
        help="scale: what the feature writes, times a factor; add: its direction at every token",
        choices=("scale", "add"),
    )
    scales: list[float] | None = key(
        None, help="factors, null: [0.0]; with add, in mean activations of the feature, null: [1.0]"
    )
    positions: str = positions_key("all: but the first token")
    error_term: str = key("keep", help="keep: what the autoencoder does not explain stays in the run", choices=("keep", "drop"))
    controls: int = key(12, help="random features, and as many that are matched in frequency and size", least=0)
    text_tokens: int = key(8192, help="of held-out text, for frequencies and examples", least=256)
    sae: Any = key("${sae}", help="set the group `sae`")


class SaeToggle(SaeAblation):
    """See the module."""

    name = "sae_toggle"
    table = "feature_impact"
    config = SaeToggleConfig
    draws = ("control features",)

    def check(self, cfg: SaeToggleConfig) -> None:
        """Refuse an autoencoder that cannot be meant."""
        check_sae(cfg.sae)

    def random_components(self, cfg: SaeToggleConfig, n_rest: int) -> tuple[str, ...]:  # noqa: ARG002
        """Control features, and the autoencoder where none is named."""
        return self.draws if is_named(cfg.sae) else ("autoencoder", *self.draws)

    def input_digest(self, cfg: SaeToggleConfig) -> str:
        """The identity of the autoencoder, or of the text that it is trained on."""
        return inputs(cfg.sae) or content_id(cfg.sae.corpus)

    def plan(self, cfg: SaeToggleConfig, context: PlanContext) -> list[Arm]:
        """The features, their controls, and the reconstruction with nothing touched.

        An outline has as many arms and rows, of any features, where the autoencoder would have to be trained first.
        """
        if (planned := untrained(cfg.sae, context)) is not None:
            n = planned.n_features
            make = _RowBuilder(cfg, planned, context, [1.0] * n)
            named = chosen(cfg.features, n, "ablation.features", "features")
            features = range(min(cfg.candidates, n)) if cfg.features is None else named
            others = dict.fromkeys((RANDOM, MATCHED), range(min(cfg.controls, n)))
            main = replace(make.arm(features), left_out=planned.cost)
        else:
            make, main, others = _of_features(cfg, context)
        nothing = {"layer": make.autoencoder.site.layer, "feature": NOTHING, "scale": 1.0}
        splice = Splice(make.autoencoder, keep_error=False)
        return [
            main,
            Arm(context.clean, [sae_row(make.autoencoder, nothing, splice, cfg.positions, SPLICE)], in_table=False),
            *(make.arm(of_kind, controls_of=name) for name, of_kind in others.items() if of_kind),
            sham_leg(make.autoencoder, context, nothing, cfg.positions),
        ]

    def combine(self, prepared: "PreparedRun", measured: "Sequence[Measured]") -> "Sequence[Measured]":
        """Without the error term, the baseline is the reconstruction with no feature touched."""
        cfg: Any = prepared.spec.settings.root.ablation
        if cfg.error_term == "keep":
            return measured
        spliced = next(m for m in measured if m.arm.rows and m.arm.rows[0].described.granularity == SPLICE)
        out = []
        for m in measured:
            if not (m.arm.self_patch or m is spliced):
                same = spliced.at(m.examples)
                baseline = {name: values[0] for name, values in same.values.items()}
                m = replace(m, baseline=baseline, top1_baseline=same.top1[0])
            out.append(m)
        return out


def _of_features(cfg: SaeToggleConfig, context: PlanContext) -> "tuple[_RowBuilder, Arm, Mapping[str, Sequence[int]]]":
    """What makes rows with the autoencoder, the arm of the features to measure, and control features.

    Raises:
        ConfigError: there is no such feature, or none is active.
    """
    from tiny_ablation.sae.candidates import choose, matched_controls, on_prompts, random_controls
    from tiny_ablation.sae.panel import feature_facts
    from tiny_ablation.sae.text import text_facts

    autoencoder = obtain(context.network, cfg.sae, context.seed)
    found = on_prompts(context.network, autoencoder, context.clean, context.corrupt, spec(cfg.positions), full=context.full)
    if cfg.features is not None:
        named = chosen(cfg.features, autoencoder.n_features, "ablation.features", "features")
        why = dict.fromkeys(named, "named")
    else:
        why = choose(found, cfg.candidates)
        if not why:
            raise ConfigError(
                f"ablation=sae_toggle: no feature of {autoencoder.source} is active on these prompts, so there is nothing to "
                "switch off; name some with ablation.features=[...]"
            )
    text = text_facts(context.network, autoencoder, cfg.sae, context.seed, cfg.text_tokens)
    facts = feature_facts(context.network, autoencoder, text, found, why)
    make = _RowBuilder(cfg, autoencoder, context, text.mean_active)
    notes = {
        **text.quality,
        "weights": autoencoder.identity,
        "hook": autoencoder.site.hook_name,
        "features": autoencoder.n_features,
        "error_term": cfg.error_term,
        "text": quality_text(text.quality),
    }
    controls = {
        RANDOM: random_controls(found, list(why), cfg.controls, context.seed),
        MATCHED: matched_controls(found, list(why), cfg.controls),
    }
    return make, replace(make.arm(list(why)), notes={"sae": notes}, features=facts), controls


@dataclass(frozen=True)
class _RowBuilder:
    """Makes arms of one config."""

    cfg: SaeToggleConfig
    autoencoder: Autoencoder
    context: PlanContext
    mean_active: Any  # (n_features,)

    def arm(self, features: Sequence[int], controls_of: str = "") -> Arm:
        # Off, or once what the feature writes where it is active.
        scales = self.cfg.scales or ([0.0] if self.cfg.mode == "scale" else [1.0])
        rows = [self._row(feature, scale) for feature in features for scale in scales]
        keep = self.cfg.error_term == "keep"
        baseline = "the clean prompt, un-intervened" if keep else "the clean prompt, with the reconstruction in place"
        return Arm(self.context.clean, rows, baseline=baseline, in_table=not controls_of, controls_of=controls_of)

    def _row(self, feature: int, scale: float) -> Row:
        keep = self.cfg.error_term == "keep"
        made: Replacement
        if self.cfg.mode == "scale":
            made = ScaleFeature(self.autoencoder, keep, feature=feature, factor=scale)
        else:
            made = AddFeature(self.autoencoder, keep, feature=feature, amount=scale * float(self.mean_active[feature]))
        key = {"layer": self.autoencoder.site.layer, "feature": feature, "scale": scale}
        row = sae_row(self.autoencoder, key, made, self.cfg.positions, "feature")
        nothing = self.cfg.mode == "scale" and scale == 1 and keep
        return replace(row, intervention=None) if nothing else row
