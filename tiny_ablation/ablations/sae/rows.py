"""What the ablations with an autoencoder share: arms, checks, and how its quality is reported."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from tiny_ablation.config.schema import SaeConfig
from tiny_ablation.document import Section
from tiny_ablation.engine.edits import Edit, Intervention, PositionSpec, Replacement
from tiny_ablation.errors import ConfigError
from tiny_ablation.run.plan import Ablation, Analysis, Arm, InterventionSpec, Key, LeftOut, PlanContext, Row
from tiny_ablation.sae.autoencoder import Autoencoder
from tiny_ablation.sae.site import Site
from tiny_ablation.sae.splice import Splice
from tiny_ablation.sae.trained import is_whole, recipe

if TYPE_CHECKING:
    from tiny_ablation.run.measure import Measured
    from tiny_ablation.run.prepare import PreparedRun

_ANY = ("path", "release", "id", "other_model", "component", "layer", "corpus", "held_out", "context")
NOTHING = -1  # in place of a feature's number, where none is touched


class SaeAblation(Ablation):
    """An ablation with an autoencoder; its plan notes the autoencoder's quality under `sae`."""

    def analyse(self, prepared: "PreparedRun", measured: "Sequence[Measured]") -> Analysis:
        """The features, and what has to be read beside their effects."""
        from tiny_ablation.ablations.sae.features import analyse

        return analyse(prepared, measured)

    def sections(self, summary: Mapping[str, Any]) -> list[Section]:
        """The autoencoder, and the sizes of effects beside those of controls."""
        return [Section("Autoencoder", summary.get("notes", {}).get("sae", {}).get("lines", ()))]


def check_sae(cfg: SaeConfig) -> None:
    """Refuse an autoencoder that cannot be meant.

    Raises:
        ConfigError: with the key.
    """
    if cfg.width is not None and cfg.k > cfg.width:
        raise ConfigError(f"sae.k={cfg.k}: there are only sae.width={cfg.width} features")
    if (cfg.release is None) != (cfg.id is None):
        raise ConfigError("sae.release and sae.id name a pretrained autoencoder together; give both")
    if cfg.path is not None and cfg.release is not None:
        raise ConfigError("sae.path and sae.release name two autoencoders; give one of them")
    if not is_named(cfg):
        if cfg.other_model:
            raise ConfigError("sae.other_model=true is about sae.path or sae.release, and neither is given")
        return
    recipe = [f.name for f in fields(SaeConfig) if f.name not in _ANY and getattr(cfg, f.name) != f.default]
    if recipe:
        raise ConfigError(
            f"sae.{recipe[0]} says how to train an autoencoder, but {'sae.path' if cfg.path else 'sae.release'} names one "
            "that is finished; leave one of them out"
        )


def is_named(cfg: SaeConfig) -> bool:
    """Whether the config names an autoencoder that exists."""
    return cfg.path is not None or cfg.release is not None


@dataclass(frozen=True)
class Untrained:
    """An autoencoder that the run would train first, for an outline: its site, its size and what training it costs."""

    site: Site
    n_features: int
    cost: LeftOut


def untrained(cfg: SaeConfig, context: PlanContext, *, anew: bool = False) -> Any:
    """The autoencoder as an `Untrained`; None where it exists (and `anew` does not ask for another), or may be trained now."""
    if not context.outline or is_named(cfg):
        return None
    made = recipe(context.network, cfg, context.seed)
    if is_whole(made.directory) and not anew:
        return None
    read, width = context.network.blocks[: made.site.layer + 1], made.site.width(context.shape)
    seen = 2 * cfg.tokens * sum(weight.numel() for block in read for weight in block.parameters())
    quality = 3 * 2 * cfg.held_out * sum(weight.numel() for weight in context.network.hf.parameters())
    steps = 12 * cfg.steps * cfg.batch * width * made.width  # two matrices, forwards and twice that back
    what = f"an autoencoder of {made.width:,} features is trained"
    return Untrained(made.site, made.width, LeftOut(what, float(seen + quality + steps)))


def spec(positions: str) -> PositionSpec:
    """As the engine says it: autoencoders know nothing of position 0, so `all` leaves it out."""
    return "after_first" if positions == "all" else positions


def sae_row(autoencoder: Autoencoder, key: Key, replacement: Replacement, positions: str, granularity: str) -> Row:
    """One replacement at the autoencoder's place."""
    site = autoencoder.site
    edit = Edit(site.component, site.layer, None, replacement, spec(positions))
    feature = key.get("feature", NOTHING)
    name = "" if feature == NOTHING else f"feature {feature}"
    described = InterventionSpec(granularity, site.component, replacement.name, str(spec(positions)), "clean")
    return Row(key, Intervention((edit,)), described, sites=name)


def sham_leg(autoencoder: Autoencoder, context: PlanContext, key: Key, positions: str) -> Arm:
    """The autoencoder spliced in with its error, which must change nothing."""
    row = sae_row(autoencoder, key, Splice(autoencoder), positions, "self_patch")
    return Arm(context.clean, [row], in_table=False, self_patch=True)


def quality_text(numbers: dict[str, Any]) -> str:
    """Quality in one line."""
    return (
        f"{numbers['explained_variance']:.3f} of the variance explained with {numbers['l0']:.1f} active features a token; "
        f"splicing it in recovers {numbers['ce_recovered']:.3f} of the loss that zeroing the place costs; "
        f"{numbers['dead_features']:.0%} of the features are dead (held-out text without position 0, "
        f"{numbers['tokens']} tokens)"
    )
