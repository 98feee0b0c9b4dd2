"""What `heads_mean` and `mlp_mean` share: which mean is put in, and what the seed draws for it."""

from dataclasses import dataclass

from tiny_ablation.config.schema import AblationConfig
from tiny_ablation.run.plan import Ablation


@dataclass
class MeanKeys(AblationConfig):
    """Keys of every kind that replaces by a mean."""

    mean: str = "overall"  # overall | position | template | template_position
    n_reference: int = 256  # at most so many examples, drawn from those that are not evaluated


class MeanAblation(Ablation):
    """A kind whose means come from a reference set."""

    def random_components(self, cfg: MeanKeys, n_rest: int) -> tuple[str, ...]:
        """The reference set, where not all of the rest is taken."""
        return ("reference",) if n_rest > cfg.n_reference else ()
