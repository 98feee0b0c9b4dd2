"""What a difference between two computations of the same numbers means: ok, noise, drift or bug.

Two correct computations differ by rounding: little, in no common direction, and without a consequence for any conclusion. A
number that is off by more is a wrong result, and these rules say how it is wrong, metric by metric. With `floor` for what
rounding alone can do to the metric:

- *ok*: every value agrees within the floor.
- *noise*: within `FEW` floors, the mean of no site is off by more than one, and no effect has another sign or rank.
- *bug*: a value is not a number; or beyond `FEW` floors the mean effect of a site has the other sign, it or the baseline is off
  by more than a tenth of its size, or a single value is off by more than a tenth of the metric's typical size.
- *drift*: everything between: small relative errors, and values that are off by a common factor, which rounding never is.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

ORDER = ("ok", "noise", "drift", "bug")

FEW = 5  # floors within which a difference may still be rounding
WRONG = 0.1  # share of its size by which a right effect is never off
# Floors are for logits of size 10, so a tenth of one is rounding relative to the value; twice that is not.
FACTOR = 0.2  # times the floor: a common factor farther from 1 is systematic
LARGE = 100  # floors that values are to be large, for a factor to be told from rounding


@dataclass(frozen=True)
class Compared:
    """One metric of one arm, computed twice; arrays are (1 + n_sites, n_examples): the baseline, then each site."""

    main: Any  # the run's values
    again: Any
    slack: Any  # how much of a difference may lie between two right answers that tie
    floor: float  # what rounding can do

    @property
    def errors(self) -> Any:
        """(1 + n_sites, n_examples): main minus again, without what ties explain."""
        difference = self.main - self.again
        return np.sign(difference) * np.maximum(np.abs(difference) - self.slack, 0.0)

    @property
    def effects(self) -> tuple[Any, Any]:
        """(n_sites,) mean effects, in the run and again."""
        main, again = ((x[1:] - x[0]).mean(1) for x in (self.main, self.again))
        return main, again

    @property
    def _judged(self) -> tuple[Any, Any]:
        """As `effects`, with the run's values as far as ties do not explain them."""
        main, again = ((x[1:] - x[0]).mean(1) for x in (self.again + self.errors, self.again))
        return main, again

    @property
    def effect_errors(self) -> Any:
        """(n_sites,): the run's mean effects minus those computed again."""
        errors = self.errors
        return (errors[1:] - errors[0]).mean(1)

    @property
    def sign_flips(self) -> Any:
        """(n_sites,) bool: both effects are more than rounding, and have different signs."""
        main, again = self._judged
        resolved = np.minimum(np.abs(main), np.abs(again)) > FEW * self.floor
        return resolved & (np.sign(main) != np.sign(again))

    @property
    def wrong_effects(self) -> Any:
        """(n_sites,) bool: the effect has the other sign, or is off by more than a tenth of its size."""
        most = np.maximum(FEW * self.floor, WRONG * np.abs(self.effects[1]))
        return self.sign_flips | (np.abs(self.effect_errors) > most)

    @property
    def wrong_baseline(self) -> bool:
        """Whether the mean of the baseline is off by more than a tenth of its size."""
        most = max(FEW * self.floor, WRONG * abs(self.again[0].mean()))
        return bool(abs(self.errors[0].mean()) > most)

    @property
    def wrong_values(self) -> Any:
        """(1 + n_sites, n_examples) bool: not a number, or off by more than a tenth of the metric's typical size."""
        most = max(FEW * self.floor, WRONG * self.typical)
        return ~np.isfinite(self.errors) | (np.abs(self.errors) > most)

    @property
    def typical(self) -> float:
        """Root mean square of the values computed again."""
        return float(np.sqrt((self.again**2).mean()))

    @property
    def factor(self) -> float:
        """The factor between the run's values and those computed again; 1 where they are too small to tell."""
        if not self.typical > LARGE * self.floor:
            return 1.0
        return 1.0 + float((self.again * self.errors).sum() / (self.again**2).sum())

    @property
    def swapped(self) -> bool:
        """Whether two sites whose effects clearly differ stand in another order."""
        main, again = self._judged
        clear = again[:, None] - again > FEW * self.floor
        return bool((clear & (main[:, None] < main)).any())

    def rows(self) -> list[str]:
        """The verdict on the baseline and on each site."""
        if not np.isfinite(self.main).all() or not np.isfinite(self.again).all():
            bad = ~(np.isfinite(self.main).all(1) & np.isfinite(self.again).all(1))
            return ["bug" if row else "ok" for row in bad]
        errors = np.abs(self.errors)
        wrong = self.wrong_values.any(1) | np.array([self.wrong_baseline, *self.wrong_effects])
        drift = (errors.max(1) > FEW * self.floor) | (np.abs(self.errors.mean(1)) > self.floor)
        return [
            "bug" if w else "drift" if d else "noise" if n else "ok"
            for w, d, n in zip(wrong, drift, errors.max(1) > self.floor, strict=True)
        ]

    def verdict(self) -> str:
        """The worst row's; drift where the rows look right one by one and are not together."""
        found = worst(self.rows())
        together = found != "bug" and (self.swapped or abs(self.factor - 1) > FACTOR * self.floor)
        return worst([found, "drift"]) if together else found


def worst(verdicts: Iterable[str]) -> str:
    """The worst of some verdicts; ok for none."""
    return max(verdicts, key=ORDER.index, default="ok")
