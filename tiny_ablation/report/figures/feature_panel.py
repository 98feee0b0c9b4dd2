"""The feature panel: for each feature where it is active, how strongly, what it promotes, and what switching it off does.

The page has every measured feature; the PNG the few with the largest effects. Shading is the activation, by its share of the
feature's largest.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from tiny_ablation import formats
from tiny_ablation.report import templates
from tiny_ablation.report.figures import canvas, fonts, style
from tiny_ablation.report.figures.feature_data import FeatureCard, feature_cards, shown_token
from tiny_ablation.run.result import Result
from tiny_ablation.store.files import write_text

NAME = "feature_panel"
_ON_PAPER = 6  # features in the PNG
_ROW, _WIDTH = 1.75, 9.2  # inches
_LETTER = 0.068  # inches, of the number font at the size of ticks
_SHADE = (47, 107, 168)  # style.ABOVE


def write(result: Result, directory: Path) -> list[Path]:
    """Draw the panel of a run into `directory`, as a page and as PNG; equal sources give equal bytes."""
    cards = feature_cards(result)
    places = formats.decimals(effect.delta for card in cards for effect in card.effects)
    html, png = directory / f"{NAME}.html", directory / f"{NAME}.png"
    shown = [_shown(card, places) for card in cards]
    write_text(html, templates.render("features.html.j2", title=result.title, metric=result.metric, cards=shown))
    printed = cards[:_ON_PAPER]
    note = f"the {len(printed)} features with the largest change in {result.metric}; shading is the activation"
    with canvas.settings():
        top = canvas.header_height(_WIDTH, result.title, note)
        figure = canvas.blank(_WIDTH, top + _ROW * max(1, len(printed)) + 0.2)
        canvas.header(figure, result.title, note)
        for place, card in enumerate(printed):
            _draw_card(figure, top + place * _ROW, card, places)
        canvas.save(figure, png)
    return [html, png]


def _shown(card: FeatureCard, places: int) -> dict[str, Any]:
    largest = max(float(card.facts["largest"]), 1e-12)
    most = max([*card.histogram, 1])
    effects = []
    for e in card.effects:
        numbers = {"delta": formats.signed(e.delta, places), "bounds": formats.interval(e.low, e.high, places)}
        effects.append({"condition": e.condition, "scale": f"{e.scale:g}", "resolved": e.resolved, **numbers})
    return {
        "number": card.number,
        "facts": card.facts,
        "effects": effects,
        "promoted": [(shown_token(token), formats.signed(value, 2)) for token, value in card.promoted],
        "suppressed": [(shown_token(token), formats.signed(value, 2)) for token, value in card.suppressed],
        "bars": [round(100 * count / most, 1) for count in card.histogram],
        "examples": [
            [(shown_token(token), round(min(1.0, value / largest), 3), f"{value:.3g}") for token, value in text]
            for text in card.examples
        ],
    }


def _draw_card(figure: Figure, top: float, card: FeatureCard, places: int) -> None:
    found = ", ".join(f"{formats.signed(e.delta, places)} {formats.interval(e.low, e.high, places)}" for e in card.effects[:2])
    head = f"feature {card.number}    {found}    active on {float(card.facts['frequency_text']):.2%} of text"
    canvas.write(figure, 0.3, top, head, fontweight="bold")
    axes = canvas.add_axes(figure, 0.3, top + 0.3, 1.5, 0.95)
    axes.bar(range(len(card.histogram)), card.histogram, width=1.0, color=style.MUTED)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_xlabel(f"0 to {float(card.facts['largest']):.3g}", fontsize=style.TICK_SIZE)
    small = {"fontsize": style.TICK_SIZE}
    for line, (name, tokens) in enumerate((("promotes", card.promoted), ("suppresses", card.suppressed))):
        text = "  ".join(shown_token(token).strip() for token, _ in tokens[:8])
        canvas.write(figure, 2.0, top + 0.28 + 0.2 * line, f"{name}: {text}"[:105], color=style.MUTED, **small)
    for line, text in enumerate(card.examples[:3]):
        _draw_text(figure, 2.0, top + 0.75 + 0.24 * line, text, float(card.facts["largest"]))


def _draw_text(figure: Figure, left: float, top: float, text: Sequence[tuple[str, float]], largest: float) -> None:
    """One line of tokens around the strongest, each in front of its shade."""
    strongest = max(range(len(text)), key=lambda i: text[i][1])
    for token, value in text[max(0, strongest - 7) :]:
        shown = fonts.drawable(shown_token(token)) or " "
        if left + _LETTER * len(shown) > _WIDTH - 0.3:
            break
        share = min(1.0, value / max(largest, 1e-12))
        box = {"facecolor": (*(c / 255 for c in _SHADE), 0.55 * share), "edgecolor": "none", "pad": 0.6} if share else None
        letters = {"fontsize": style.TICK_SIZE - 0.5, "family": style.NUMBER_FONT}
        canvas.write(figure, left, top, shown, bbox=box, **letters)
        left += _LETTER * len(shown)
