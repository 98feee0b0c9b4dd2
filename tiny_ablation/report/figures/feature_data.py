"""What the figures about an autoencoder's features show, read off the tables of a run or of several conditions."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tiny_ablation import formats
from tiny_ablation.run.result import Result
from tiny_ablation.store.files import read_table


@dataclass(frozen=True)
class Effect:
    """The effect of one intervention on a feature under one condition."""

    condition: str
    scale: float
    delta: float
    low: float
    high: float

    @property
    def resolved(self) -> bool:
        """Whether the interval excludes 0."""
        return not formats.holds_zero(self.low, self.high)


@dataclass(frozen=True)
class FeatureCard:
    """One feature of the panel."""

    number: int  # which
    facts: Mapping[str, Any]  # its row of `features.parquet`
    promoted: Sequence[tuple[str, float]]  # tokens and logits, the strongest first
    suppressed: Sequence[tuple[str, float]]  # the same for those it lowers
    histogram: Sequence[int]  # counts in equal bins from 0 to its largest activation
    examples: Sequence[Sequence[tuple[str, float]]]  # for each text its tokens, each with its activation
    effects: Sequence[Effect]  # on the primary metric, by condition and scale

    @property
    def strongest(self) -> Effect:
        """Its effect of the largest size."""
        return max(self.effects, key=lambda effect: abs(effect.delta), default=Effect("", 0.0, 0.0, 0.0, 0.0))


def has_features(result: Result) -> bool:
    """Whether a run has features to show."""
    return result.index == ("layer", "feature", "scale") and (result.run.metrics / "features.parquet").is_file()


def feature_cards(result: Result) -> list[FeatureCard]:
    """The features of a run, the one with the largest effect first; its impact rows may be of several conditions."""
    metrics, rows = result.run.metrics, result.rows
    features, texts = (read_table(metrics / f"{name}.parquet") for name in ("features", "feature_examples"))
    cards = []
    for facts in features.to_dict("records"):
        number = int(facts["feature"])
        own = texts.loc[texts["feature"] == number].sort_values("rank")
        promoted, suppressed = ([(str(t), float(v)) for t, v in json.loads(facts[side])] for side in ("promoted", "suppressed"))
        examples = [
            list(zip(json.loads(tokens), json.loads(activations), strict=True))
            for tokens, activations in zip(own["tokens"], own["activations"], strict=True)
        ]
        effects = [
            Effect(row["condition"], row["scale"], row["delta"], row["ci_low"], row["ci_high"])
            for row in rows.loc[rows["feature"] == number].to_dict("records")
        ]
        named, histogram = {str(k): v for k, v in facts.items()}, json.loads(facts["histogram"])
        cards.append(FeatureCard(number, named, promoted, suppressed, histogram, examples, effects))
    return sorted(cards, key=lambda card: -abs(card.strongest.delta))


def shown_token(token: str) -> str:
    """A token as text that can be seen: line ends and tabs as signs, and nothing that breaks the line."""
    text = token.replace("\n", "\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}").replace("\t", "\N{RIGHTWARDS ARROW}")
    return "".join(c if c.isprintable() else "\N{WHITE SQUARE}" for c in text) or "\N{WHITE SQUARE}"
