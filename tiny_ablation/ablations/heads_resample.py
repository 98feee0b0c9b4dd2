"""Replace every head's output by what it writes for another example, one head at a time.

Answers: does it matter to the behaviour that the head saw *this* prompt? The value is one that the head really writes, so the
model stays on familiar ground, but it carries another example's answer: an effect mixes what is lost with what is put in.
Donors are derangements (no example gives to itself, each gives once), several of them; values are means over the draws.

Reference: Chan et al. 2022, "Causal scrubbing".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from tiny_ablation.ablations.shared.resample import Resample, draw_donors, without_donor
from tiny_ablation.ablations.shared.rows import head_row
from tiny_ablation.ablations.shared.screening import ScreenedAblation, ScreenKeys, screened
from tiny_ablation.ablations.shared.sites import head_sites
from tiny_ablation.config.keys import key
from tiny_ablation.engine.prompts import Prompt
from tiny_ablation.errors import ConfigError
from tiny_ablation.run.plan import Arm, HeadSitesConfig, PlanContext, positions_key


class Unmatched(Enum):
    """What to do with examples that no other example has the length of."""

    refuse = "refuse"
    skip = "skip"


@dataclass
class HeadsResampleConfig(ScreenKeys, HeadSitesConfig):
    """`ablation` keys of heads_resample."""

    positions: str = positions_key("all: donors of the same token length; last: any donor")
    draws: int = key(3, help="derangements; values are means over them", least=1)
    unmatched: Unmatched = key(Unmatched.refuse)


class HeadsResample(ScreenedAblation):
    """See the module."""

    name = "heads_resample"
    table = "head_impact"
    config = HeadsResampleConfig
    draws = ("donors",)

    def excluded_examples(self, cfg: HeadsResampleConfig, context: PlanContext) -> Mapping[int, str]:
        """Examples without a donor, where the user said so."""
        if cfg.unmatched is Unmatched.refuse:
            return {}
        alone = without_donor(context.clean, cfg.positions)
        return {i: f"no other example has {len(context.clean[i].ids)} tokens" for i in alone}

    def plan(self, cfg: HeadsResampleConfig, context: PlanContext) -> list[Arm]:
        """Every (layer, head), each with all draws."""
        _require_donors(cfg, context.clean)
        donors = draw_donors(context.clean, cfg.positions, cfg.draws, context.seed)
        lengths = tuple(len(p.ids) for p in context.clean)
        draws = [Resample(tuple(context.clean[d].ids for d in of), lengths, cfg.positions) for of in donors]
        rows = [head_row(cfg, site, *draws) for site in head_sites(cfg, context.shape)]
        names = [
            {p.name: context.clean[d].name for p, d in zip(context.clean, of, strict=True)} for of in donors
        ]
        return [screened(Arm(context.clean, rows, notes={"donors": names}), cfg, context)]


def _require_donors(cfg: HeadsResampleConfig, prompts: Sequence[Prompt]) -> None:
    alone = without_donor(prompts, cfg.positions)
    if len(prompts) < 2:
        raise ConfigError(
            "ablation: resample ablation takes values from other examples, so it needs at least 2; raise dataset.n_examples"
        )
    if alone:
        listed = ", ".join(f"{prompts[i].name} ({len(prompts[i].ids)} tokens)" for i in alone[:8])
        raise ConfigError(
            f"ablation.positions={cfg.positions}: {len(alone)} of {len(prompts)} examples have a length that no other has, so "
            f"none can give to them: {listed}{', ...' if len(alone) > 8 else ''}; leave them out with ablation.unmatched=skip, "
            "take more examples, or set ablation.positions=last"
        )


ABLATIONS = (HeadsResample(),)
