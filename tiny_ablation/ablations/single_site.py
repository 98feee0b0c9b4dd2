"""Single sites, one at a time: a table of sites by replacements, each pair of which is an ablation.

    heads_zero     heads_mean     heads_resample     heads: the output of every head (or its q, k, v: `component`)
    attn_zero      attn_mean      attn_resample      what every attention layer adds to the residual stream
    mlp_zero       mlp_mean       mlp_resample       what every MLP adds to it

and `heads_optimal`, `attn_optimal`, `mlp_optimal`: the constant that costs the behaviour least, see `shared.optimal`.

Zero (or a factor, `scales`) is far from what a part ever writes, so an effect says that the model *uses* what is there, not
that the part computes the answer (Wang et al. 2022, section 3; Miller et al. 2024). A mean over examples that are not evaluated
keeps what every prompt shares, and hides what is constant over them (Wang et al. 2022). Another example's value is one that the
part really writes, but it carries another answer: an effect mixes what is lost with what is put in (Chan et al. 2022, "Causal
scrubbing"). `screen=attribution` estimates every site from gradients first and measures only some of them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any

from tiny_ablation.ablations.shared.means import MeanAblation, MeanKeys, plan_means
from tiny_ablation.ablations.shared.optimal import OptimalAblation, OptimalKeys, plan_optimal
from tiny_ablation.ablations.shared.replacements import Scale
from tiny_ablation.ablations.shared.resample import Resample, draw_donors, without_donor
from tiny_ablation.ablations.shared.screening import LayerScreenKeys, ScreenedAblation, ScreenKeys, keep_chosen
from tiny_ablation.ablations.shared.sites import chosen_layers, head_sites
from tiny_ablation.config.keys import key
from tiny_ablation.config.schema import AblationConfig
from tiny_ablation.engine.edits import Edit, Intervention, Replacement
from tiny_ablation.errors import ConfigError
from tiny_ablation.models.hookpoints import ModelShape
from tiny_ablation.run.plan import (
    Ablation,
    Arm,
    HeadSitesConfig,
    InterventionSpec,
    LayerSitesConfig,
    LeftOut,
    PlanContext,
    Row,
    positions_key,
)

Place = tuple[int, int | None]  # (layer, head), or a layer alone


class Unmatched(Enum):
    """What to do with examples that no other example has the length of."""

    refuse = "refuse"
    skip = "skip"


@dataclass
class ResampleKeys(AblationConfig):
    """Keys of every ablation that puts in another example's value."""

    positions: str = positions_key("all: donors of the same token length; last: any donor")
    draws: int = key(3, help="derangements; values are means over them", least=1)
    unmatched: Unmatched = key(Unmatched.refuse)


@dataclass
class HeadsScaleConfig(ScreenKeys, HeadSitesConfig):
    """`ablation` keys of heads_zero."""

    scales: list[float] = key([0.0], help="factors, such as [0, 0.5, 1]: 0 removes a head, 1 is the baseline")


@dataclass
class LayersScaleConfig(LayerScreenKeys, LayerSitesConfig):
    """`ablation` keys of attn_zero and mlp_zero."""

    scale: float = key(0.0, help="the factor of what the layer adds; 0 removes it")


@dataclass
class HeadsMeanConfig(ScreenKeys, MeanKeys, HeadSitesConfig):
    """`ablation` keys of heads_mean."""


@dataclass
class LayersMeanConfig(LayerScreenKeys, MeanKeys, LayerSitesConfig):
    """`ablation` keys of attn_mean and mlp_mean."""


@dataclass
class HeadsResampleConfig(ScreenKeys, ResampleKeys, HeadSitesConfig):
    """`ablation` keys of heads_resample."""


@dataclass
class LayersResampleConfig(LayerScreenKeys, ResampleKeys, LayerSitesConfig):
    """`ablation` keys of attn_resample and mlp_resample."""


@dataclass
class HeadsOptimalConfig(OptimalKeys, HeadSitesConfig):
    """`ablation` keys of heads_optimal."""


@dataclass
class LayersOptimalConfig(OptimalKeys, LayerSitesConfig):
    """`ablation` keys of attn_optimal and mlp_optimal."""


@dataclass(frozen=True)
class Sites:
    """One row of the table: which sites there are, and how a row of the impact table names one."""

    name: str  # the first half of the ablation's name
    table: str  # the impact table
    places: Callable[[Any, ModelShape], Sequence[Place]]  # every site that a config names
    component: str | None = None  # the hook point that is written to; None takes it from the config

    def row(self, cfg: Any, place: Place, scale: float, draws: Sequence[Replacement]) -> Row:
        """The row of one site; several replacements are draws whose values are averaged.

        `scale` is the share of the site's own value that is kept; at 1 nothing has to be run.
        """
        layer, head = place
        component = self.component or cfg.component
        granularity = "head" if head is not None else component
        first, *more = [Intervention((Edit(component, layer, head, r, cfg.positions),)) for r in draws]
        key = {"layer": layer, "granularity": component} if head is None else {"layer": layer, "head": head, "scale": scale}
        return Row(
            key=key,
            intervention=None if scale == 1 else first,
            described=InterventionSpec(granularity, component, draws[0].name, cfg.positions, "clean"),
            draws=tuple(more),
        )


# By the share of a site's own value that is kept, its replacement in each draw; notes on what was drawn to make them; and what
# an outline did not make.
Values = tuple[Sequence[tuple[float, Sequence[Replacement]]], Mapping[str, Any], LeftOut | None]


class SingleSite(Ablation):
    """Sites of one kind, a row of the table, with one replacement; subclasses are its columns."""

    word = ""  # the second half of the name

    def __init__(self, sites: Sites, config: type[AblationConfig]) -> None:
        self.sites, self.config = sites, config
        self.name, self.table = f"{sites.name}_{self.word}", sites.table

    def values(self, cfg: Any, context: PlanContext, places: Sequence[Place]) -> Values:
        """What is put at every site."""
        raise NotImplementedError

    def plan(self, cfg: Any, context: PlanContext) -> list[Arm]:
        """Every site, with every value."""
        places = self.sites.places(cfg, context.shape)
        by_scale, notes, left_out = self.values(cfg, context, places)
        rows = [self.sites.row(cfg, place, *value) for place in places for value in by_scale]
        return [Arm(context.clean, rows, notes=notes, left_out=left_out)]


class ScreenedSite(SingleSite, ScreenedAblation):
    """Sites that may be chosen by their estimates."""

    def plan(self, cfg: Any, context: PlanContext) -> list[Arm]:
        """Every site, or those that screening keeps, with every value."""
        [arm] = super().plan(cfg, context)
        if not cfg.screen:
            return [arm]
        pilot, also = cfg.screen_pilot, cfg.screen_also or ()
        return [keep_chosen(arm, cfg.screen_top, cfg.screen_random, context, pilot=pilot, also=also)]


class Scaled(ScreenedSite):
    """The site's own value times a factor; 0 removes it."""

    word = "zero"

    def values(self, cfg: Any, context: PlanContext, places: Sequence[Place]) -> Values:  # noqa: ARG002
        """A factor each."""
        scales = cfg.scales if hasattr(cfg, "scales") else [cfg.scale]
        return [(scale, (Scale(scale),)) for scale in scales], {}, None


class Averaged(ScreenedSite, MeanAblation):
    """The mean over examples that are not evaluated; see `shared.means` for the choice of `ablation.mean`."""

    word = "mean"

    def values(self, cfg: Any, context: PlanContext, places: Sequence[Place]) -> Values:
        """One mean a site."""
        component = self.sites.component or cfg.component
        mean, notes = plan_means(cfg, context, sorted({(component, layer) for layer, _ in places}))
        return [(0.0, (mean,))], notes, None


class Resampled(ScreenedSite):
    """Another example's value: derangements (no example gives to itself, each gives once), several of them."""

    word = "resample"
    draws = ("donors",)

    def excluded_examples(self, cfg: Any, context: PlanContext) -> Mapping[int, str]:
        """Examples without a donor, where the config asks to skip them."""
        if cfg.unmatched is Unmatched.refuse:
            return {}
        alone = without_donor(context.clean, cfg.positions)
        return {i: f"no other example has {len(context.clean[i].ids)} tokens" for i in alone}

    def values(self, cfg: Any, context: PlanContext, places: Sequence[Place]) -> Values:  # noqa: ARG002
        """Every draw of donors."""
        prompts = context.clean
        alone = without_donor(prompts, cfg.positions)
        if len(prompts) < 2:
            raise ConfigError(
                "ablation: resample ablation takes values from other examples, so it needs at least 2; raise dataset.n_examples"
            )
        if alone:
            listed = ", ".join(f"{prompts[i].name} ({len(prompts[i].ids)} tokens)" for i in alone[:8])
            raise ConfigError(
                f"ablation.positions={cfg.positions}: {len(alone)} of {len(prompts)} examples have a length that no other has, "
                f"so none can give to them: {listed}{', ...' if len(alone) > 8 else ''}; leave them out with "
                "ablation.unmatched=skip, take more examples, or set ablation.positions=last"
            )
        donors = draw_donors(prompts, cfg.positions, cfg.draws, context.seed)
        lengths = tuple(len(p.ids) for p in prompts)
        draws = [Resample(tuple(prompts[d].ids for d in of), lengths, cfg.positions) for of in donors]
        names = [{p.name: prompts[d].name for p, d in zip(prompts, of, strict=True)} for of in donors]
        return [(0.0, draws)], {"donors": names}, None


class Optimal(SingleSite, OptimalAblation):
    """The constant that costs least; see `shared.optimal`. Learning costs more than measuring, so nothing is screened."""

    word = "optimal"

    def values(self, cfg: Any, context: PlanContext, places: Sequence[Place]) -> Values:
        """One constant a site."""
        component, sites = self.sites.component or cfg.component, {}
        for layer, head in places:
            sites.setdefault((component, layer), []).append(head or 0)
        constant, notes, left_out = plan_optimal(cfg, context, sites)
        return [(0.0, (constant,))], notes, left_out


def _layers(component: str, cfg: Any, shape: ModelShape) -> list[Place]:
    return [(layer, None) for layer in chosen_layers(cfg.layers, shape, component)]


HEADS = Sites("heads", "head_impact", head_sites)
ATTENTION = Sites("attn", "layer_impact", partial(_layers, "attn_out"), "attn_out")
MLP = Sites("mlp", "layer_impact", partial(_layers, "mlp_out"), "mlp_out")
LAYERS = (ATTENTION, MLP)

ABLATIONS = (
    Scaled(HEADS, HeadsScaleConfig),
    Averaged(HEADS, HeadsMeanConfig),
    Resampled(HEADS, HeadsResampleConfig),
    *(Scaled(sites, LayersScaleConfig) for sites in LAYERS),
    *(Averaged(sites, LayersMeanConfig) for sites in LAYERS),
    *(Resampled(sites, LayersResampleConfig) for sites in LAYERS),
    Optimal(HEADS, HeadsOptimalConfig),
    *(Optimal(sites, LayersOptimalConfig) for sites in LAYERS),
)
