"""Something that is simulated many times, and the check that its mean makes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tiny_ablation.commands._selfcheck.checks import Check
from tiny_ablation.commands._selfcheck.circuits import Workshop
from tiny_ablation.commands._selfcheck.simulate import MODEL, MOST, share
from tiny_ablation.config.seeds import generator

if TYPE_CHECKING:
    import numpy as np

    from tiny_ablation.run.prepare import PreparedRun


@dataclass(frozen=True)
class Trial:
    """What is simulated many times.

    Attributes:
        name: of the check.
        text: in words.
        once: from a run that could start and a generator, what is counted: a share, or whether something was found.
        low: the least mean; None for no such bar.
        high: the largest; None for no such bar.
        n: how many times.
    """

    name: str
    text: str
    once: "Callable[[PreparedRun, np.random.Generator], float]"
    low: float | None = None
    high: float | None = MOST
    n: int = 100


def check_trials(shop: Workshop, trials: Sequence[Trial]) -> list[Check]:
    """A row for each."""
    import numpy as np

    prepared = shop.prepare(MODEL, "ablation=heads_zero", "ablation.scales=[0.0]")
    rows = []
    for trial in trials:
        found = []
        for i in range(trial.n * shop.times):
            found.append(trial.once(prepared, generator(0, "selfcheck", trial.name, trial.text, i)))
            shop.tick(1)
        rows.append(share(trial.name, trial.text, float(np.mean(found)), trial.low, trial.high, f" in {len(found):,}"))
    return rows
