"""The answer of a run in words, with every number taken from its effects.

An effect whose interval includes 0 is never called an effect, and a count of resolved sites always comes with
how many would be resolved by chance.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from tiny_ablation import formats
from tiny_ablation.run import effects, vocabulary
from tiny_ablation.stats.fdr import LEVEL
from tiny_ablation.store.schema import largest_first


@dataclass(frozen=True)
class Answer:
    """What was found."""

    headline: str  # one sentence
    sentences: list[str]  # what it rests on
    tested: int  # how many sites were tested at the scale that the sentences are about
    resolved: int  # how many of them have an interval that excludes 0
    significant: int | None  # how many have q at most 0.05; None where q-values are not to be used
    top: dict[str, Any] | None  # the row of the site that the headline names; None where it names none
    firm: bool  # whether the headline names a site that nothing speaks against; else it is set smaller


def answer(
    impact: pd.DataFrame,
    *,
    metric: str,
    confidence: float = 0.95,
    use_q: bool = True,
    family_size: int | None = None,
    doubt: Callable[[Mapping[str, Any]], str] = lambda _site: "",
) -> Answer:
    """Which sites the behaviour depends on, at the strongest intervention of the run that wrote the impact table.

    `use_q` is False where the number of draws does not reach the first step of the correction; `doubt` says of the row of a
    site what speaks against calling it the strongest (`evidence.doubt`), or nothing.

    Raises:
        ResultsError: the table has no effect on `metric`.
    """
    rows = effects.of_metric(impact, metric)
    scale = effects.scales(rows)[0]
    rows = effects.at_scale(rows, scale)
    use_q = use_q and bool(rows["q_value"].notna().any())
    found = largest_first(effects.where(rows, rows["resolved"]))
    if use_q:
        found = effects.where(found, found["q_value"] <= LEVEL)
    elif len(found) <= (1 - confidence) * len(rows):  # without a correction, as many as chance would give are no finding
        found = found.iloc[:0]
    several = ("direction",) if len(set(rows["direction"])) > 1 else ()
    teller = _AnswerWriter(
        metric, confidence, scale, (*effects.index_columns(impact), *several), formats.decimals(rows["delta"])
    )
    top = None if found.empty else found.iloc[0].to_dict()
    reserve = "" if top is None else doubt(top)
    sentences = [] if found.empty else [teller.size(found)]
    sentences += teller.counts(rows, found, use_q, family_size)
    sentences += [] if found.empty else [teller.directions(found)]
    sentences += teller.larger_but_uncertain(rows, found)
    significant, firm = len(found) if use_q else None, top is not None and not reserve
    return Answer(teller.headline(found, reserve), sentences, len(rows), sum(rows["resolved"]), significant, top, firm)


@dataclass(frozen=True)
class _AnswerWriter:
    """The sentences about one table."""

    metric: str
    confidence: float
    scale: float | None
    index: tuple[str, ...]
    places: int

    def headline(self, found: pd.DataFrame, doubt: str) -> str:
        if found.empty:
            one = vocabulary.noun(self.index, 1)
            return f"No {one} has an effect on {self.metric} that this run can tell from none."
        row = found.iloc[0].to_dict()
        done = vocabulary.action(row["replacement"], self.scale, effects.label(row, self.index, sentence=True))
        verb = "lowers" if row["delta"] < 0 else "raises"
        before, after = formats.plain(row["baseline"], self.places), formats.plain(row["value"], self.places)
        change = f"from {before} to {after} {vocabulary.metric_vocabulary(self.metric).unit}"
        done = f"{done[:1].upper()}{done[1:]} {verb} {self.metric}"
        return f"{done} {change} in this run; {doubt}." if doubt else f"{done} the most: {change}."

    def counts(self, rows: pd.DataFrame, found: pd.DataFrame, use_q: bool, family_size: int | None) -> list[str]:
        tested, resolved = len(rows), sum(rows["resolved"])
        chance = (1 - self.confidence) * tested
        lucky = f"about {chance:.0f}" if chance >= 1 else "fewer than one"
        at = "" if self.scale is None else f" at scale {self.scale:g}"
        have = f"{'has' if resolved == 1 else 'have'} a {formats.percent(self.confidence)} interval that excludes 0"
        lines = [
            f"Of {tested} {vocabulary.noun(self.index, tested)}{at}, {resolved} {have}; {lucky} would by chance if none had an "
            "effect."
        ]
        if use_q and resolved:
            family = f" among {family_size} tests" if family_size else ""
            lines.append(f"After correcting for the number of tests, {len(found)} remain (q at most 0.05{family}).")
        return lines

    def size(self, found: pd.DataFrame) -> str:
        row = found.iloc[0].to_dict()
        unit = vocabulary.metric_vocabulary(self.metric).unit
        change, expected = (formats.signed(row[key], self.places) for key in ("delta", "shrunken"))
        if row["selected_low"] != row["selected_low"]:  # a share has no test, so nothing was chosen by one
            bounds = effects.interval(row, self.places)
            return f"That is a change of {change} {unit}, with a {formats.percent(self.confidence)} interval of {bounds}."
        bounds = formats.interval(*effects.interval_of_chosen(row), self.places)
        return (
            f"That is a change of {change} {unit}, with a {formats.percent(self.confidence)} interval of {bounds} that allows "
            f"for its being chosen as one of the strongest; about {expected} is to be expected on new examples."
        )

    def directions(self, found: pd.DataFrame) -> str:
        lower = sum(found["delta"] < 0)
        higher = len(found) - lower
        said = vocabulary.metric_vocabulary(self.metric)
        less, more = (f" ({text})" if text else "" for text in (said.less, said.more))
        if len(found) == 1:
            return f"It {'lowers' if lower else 'raises'} {self.metric}{less if lower else more}."
        return f"{lower} of these lower {self.metric}{less}, {higher} raise it{more}."

    def larger_but_uncertain(self, rows: pd.DataFrame, found: pd.DataFrame) -> list[str]:
        """A larger mean that the run cannot vouch for must not be overlooked in the table."""
        first = largest_first(rows).iloc[0]
        if not found.empty and first.name == found.index[0]:
            return []
        row = first.to_dict()
        where = effects.label(row, self.index, sentence=True)
        why = "it does not stand out among so many tests" if row["resolved"] else "its interval includes 0"
        bounds = effects.interval(row, self.places)
        change = f"{formats.signed(row['delta'], self.places)} {bounds}"
        return [f"The largest mean change is at {where}, {change}, but {why}."]
