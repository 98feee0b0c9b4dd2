"""What `heads_mean` and `mlp_mean` share: which mean is put in, and what the seed draws for it."""

from dataclasses import dataclass

from tiny_ablation.ablations.shared.means import MEANS
from tiny_ablation.config.keys import key
from tiny_ablation.config.schema import AblationConfig
from tiny_ablation.run.plan import Ablation


@dataclass
class MeanKeys(AblationConfig):
    """Keys of every kind that replaces by a mean."""

    mean: str = key(
        "overall",
        help="over all tokens, or one mean for each distance from the last token, each wording, or both",
        choices=MEANS,
    )
    n_reference: int = key(256, help="at most so many examples, drawn from those that are not evaluated", least=1)


class MeanAblation(Ablation):
    """A kind whose means come from a reference set."""

    def random_components(self, cfg: MeanKeys, n_rest: int) -> tuple[str, ...]:
        """The reference set, where not all of the rest is taken."""
        return ("reference",) if n_rest > cfg.n_reference else ()
