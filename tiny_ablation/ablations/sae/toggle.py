"""Switch features of a sparse autoencoder off, one at a time: scale them, or add them to every token.

Answers: which features does the behaviour depend on? Candidates are the features that gradients expect to matter, that write
most on these prompts, and that tell clean from corrupt prompts; their effects are exact. What the autoencoder does not explain
stays in the run (`error_term=keep`), so an effect is that of the feature alone: with `drop`, the run continues from the
reconstruction, which is then the baseline. Beside the features are measured: random ones, ones that are active as often and
write as much, and the reconstruction with no feature touched.

References: Marks et al. 2024, "Sparse feature circuits" (error terms); Cunningham et al. 2023.
"""

from collections.abc import Sequence
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
    from tiny_ablation.sae.candidates import OnPrompts

SPLICE, RANDOM, MATCHED = "splice", "random features", "matched features"


@dataclass
class SaeToggleConfig(AblationConfig):
    """`ablation` keys of sae_toggle; which autoencoder is said under `sae`."""

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
        """The features, their controls, and the reconstruction with nothing touched."""
        if (planned := untrained(cfg.sae, context)) is not None:
            return _outline(cfg, context, planned)
        from tiny_ablation.sae.candidates import matched_controls, on_prompts, random_controls
        from tiny_ablation.sae.panel import feature_facts
        from tiny_ablation.sae.text import text_facts

        autoencoder = obtain(context.network, cfg.sae, context.seed)
        found = on_prompts(context.network, autoencoder, context.clean, context.corrupt, spec(cfg.positions), full=context.full)
        features = _features(cfg, autoencoder, found)
        text = text_facts(context.network, autoencoder, cfg.sae, context.seed, cfg.text_tokens)
        facts = feature_facts(context.network, autoencoder, text, found, features)
        make = _RowBuilder(cfg, autoencoder, context, text.mean_active)
        notes = {
            "sae": {
                **text.quality,
                "weights": autoencoder.identity,
                "hook": autoencoder.site.hook_name,
                "features": autoencoder.n_features,
                "error_term": cfg.error_term,
                "text": quality_text(text.quality),
            }
        }
        others = {
            RANDOM: random_controls(found, list(features), cfg.controls, context.seed),
            MATCHED: matched_controls(found, list(features), cfg.controls),
        }
        return [
            replace(make.arm(list(features)), notes=notes, features=facts),
            make.splice_leg(),
            *(make.arm(list_, controls_of=name) for name, list_ in others.items() if list_),
            sham_leg(autoencoder, context, make.key(NOTHING, 1.0), cfg.positions),
        ]

    def combine(self, prepared: "PreparedRun", measured: "Sequence[Measured]") -> "Sequence[Measured]":
        """Without the error term, the baseline is the reconstruction with no feature touched."""
        cfg: Any = prepared.spec.settings.root.ablation
        if cfg.error_term == "keep":
            return measured
        return [_against_splice(m, _splice(measured)) for m in measured]


def _outline(cfg: SaeToggleConfig, context: PlanContext, planned: Any) -> list[Arm]:
    """As many arms and rows as of a trained autoencoder, of any features."""
    make = _RowBuilder(cfg, planned, context, [1.0] * planned.n_features)
    features = range(min(cfg.candidates, planned.n_features))
    named = chosen(cfg.features, planned.n_features, "ablation.features", "features")
    others = range(min(cfg.controls, planned.n_features))
    return [
        replace(make.arm(features if cfg.features is None else named), left_out=planned.cost),
        make.splice_leg(),
        *(make.arm(others, controls_of=name) for name in (RANDOM, MATCHED) if others),
        sham_leg(planned, context, make.key(NOTHING, 1.0), cfg.positions),
    ]


def _features(cfg: SaeToggleConfig, autoencoder: Autoencoder, found: "OnPrompts") -> dict[int, str]:
    """The features to measure, and why.

    Raises:
        ConfigError: there is no such feature, or none is active.
    """
    if cfg.features is not None:
        return dict.fromkeys(chosen(cfg.features, autoencoder.n_features, "ablation.features", "features"), "named")
    from tiny_ablation.sae.candidates import choose

    features = choose(found, cfg.candidates)
    if not features:
        raise ConfigError(
            f"ablation=sae_toggle: no feature of {autoencoder.source} is active on these prompts, so there is nothing to "
            "switch off; name some with ablation.features=[...]"
        )
    return features


@dataclass(frozen=True)
class _RowBuilder:
    """Makes rows and arms of one config."""

    cfg: SaeToggleConfig
    autoencoder: Autoencoder
    context: PlanContext
    mean_active: Any  # (n_features,)

    def key(self, feature: int, scale: float) -> dict[str, int | float]:
        return {"layer": self.autoencoder.site.layer, "feature": feature, "scale": scale}

    def arm(self, features: Sequence[int], controls_of: str = "") -> Arm:
        rows = [self._row(feature, scale) for feature in features for scale in self._scales]
        baseline = "the clean prompt, un-intervened" if self._keep else "the clean prompt, with the reconstruction in place"
        return Arm(self.context.clean, rows, baseline=baseline, in_table=not controls_of, controls_of=controls_of)

    def splice_leg(self) -> Arm:
        splice = Splice(self.autoencoder, keep_error=False)
        row = sae_row(self.autoencoder, self.key(NOTHING, 1.0), splice, self.cfg.positions, SPLICE)
        return Arm(self.context.clean, [row], in_table=False)

    @property
    def _scales(self) -> list[float]:
        """Off, or once what the feature writes where it is active."""
        return self.cfg.scales or ([0.0] if self.cfg.mode == "scale" else [1.0])

    @property
    def _keep(self) -> bool:
        return self.cfg.error_term == "keep"

    def _row(self, feature: int, scale: float) -> Row:
        made: Replacement
        if self.cfg.mode == "scale":
            made = ScaleFeature(self.autoencoder, self._keep, feature=feature, factor=scale)
            nothing = scale == 1 and self._keep
        else:
            amount = scale * float(self.mean_active[feature])
            made = AddFeature(self.autoencoder, self._keep, feature=feature, amount=amount)
            nothing = False
        row = sae_row(self.autoencoder, self.key(feature, scale), made, self.cfg.positions, "feature")
        return replace(row, intervention=None) if nothing else row


def _splice(measured: "Sequence[Measured]") -> "Measured":
    return next(m for m in measured if m.arm.rows and m.arm.rows[0].described.granularity == SPLICE)


def _against_splice(measured: "Measured", splice: "Measured") -> "Measured":
    if measured.arm.self_patch or measured is splice:
        return measured
    splice = splice.at(measured.examples)
    baseline = {name: values[0] for name, values in splice.values.items()}
    return replace(measured, baseline=baseline, top1_baseline=splice.top1[0])
