"""The map of features: decoder directions on a plane, near each other where they point alike.

Grey is every feature of the autoencoder, larger where it is active more often; colour is the effect of the measured ones.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from matplotlib.figure import Figure

from tiny_ablation.report import words
from tiny_ablation.report.figures import canvas, interactive, style
from tiny_ablation.report.figures.feature_data import FeatureCard, feature_cards, shown_token
from tiny_ablation.report.figures.source import RunSource
from tiny_ablation.results.store import read_table

_WIDTH, _SIDE = 7.2, 5.4  # inches
_NAMED = 6  # features with their number in the PNG


@dataclass(frozen=True)
class FeatureMap:
    """Everything that both renderings draw."""

    metric: str
    title: str
    note: str
    places: pd.DataFrame
    cards: list[FeatureCard]

    @property
    def limit(self) -> float:
        """The colours reach from minus this to this."""
        return style.symmetric_limit(_delta(card) for card in self.cards)

    @property
    def sizes(self) -> np.ndarray:
        """The diameter of every feature, in points."""
        return 1.5 + 4 * np.sqrt(self.places["frequency_text"].to_numpy())

    def measured(self) -> pd.DataFrame:
        """The places of the measured features, in the order of `cards`."""
        return self.places.set_index("feature").loc[[card.number for card in self.cards]]


def collect(source: RunSource) -> FeatureMap:
    """Read the map off a run that has `metrics/feature_map.parquet`."""
    places = read_table(source.run.metrics / "feature_map.parquet")
    method = places["method"].iloc[0] if len(places) else "PCA"
    cards = feature_cards(source)
    note = f"{method} of {len(places)} decoder directions; colour: {words.change_label(source.metric)}; grey: not measured"
    return FeatureMap(source.metric, source.title, note, places, cards)


def legend(data: FeatureMap) -> str:
    """What was measured."""
    return data.note


def _delta(card: FeatureCard) -> float:
    return max((effect.delta for effect in card.effects), key=abs, default=0.0)


def static(data: FeatureMap) -> Figure:
    """The map for print."""
    top = canvas.header_height(_WIDTH, data.title, data.note)
    figure = canvas.blank(_WIDTH, top + _SIDE + 0.3)
    canvas.header(figure, data.title, data.note)
    axes = canvas.add_axes(figure, 0.4, top, _WIDTH - 0.8, _SIDE)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.scatter(data.places["x"], data.places["y"], s=data.sizes**2, color=style.LINE, linewidths=0)
    found = data.measured()
    axes.scatter(
        found["x"], found["y"], s=46, c=[_delta(card) for card in data.cards], cmap=canvas.diverging(), vmin=-data.limit,
        vmax=data.limit, edgecolors=style.INK, linewidths=0.6,
    )  # fmt: skip
    for number, x, y in list(zip(found.index, found["x"], found["y"], strict=True))[:_NAMED]:
        axes.annotate(
            str(number), (x, y), xytext=(5, 4), textcoords="offset points", fontsize=style.TICK_SIZE
        )
    return figure


def page(data: FeatureMap) -> interactive.Interactive:
    """The map for a page."""
    places, found = data.places, data.measured()
    rest = go.Scattergl(
        x=places["x"], y=places["y"], mode="markers",
        marker={"size": 2 * data.sizes, "color": style.UNRESOLVED, "opacity": 0.4},
        customdata=[[int(n), f"{f:.2%}"] for n, f in zip(places["feature"], places["frequency_text"], strict=True)],
        hovertemplate="feature %{customdata[0]}<br>active on %{customdata[1]} of text<extra></extra>",
    )  # fmt: skip
    decimals = style.decimals(map(_delta, data.cards))
    measured = go.Scatter(
        x=found["x"], y=found["y"], mode="markers",
        marker={"size": 12, "color": [_delta(card) for card in data.cards], "colorscale": interactive.colour_scale(),
                "cmin": -data.limit, "cmax": data.limit, "line": {"width": 1, "color": style.MUTED}, "showscale": True},
        customdata=[[card.number, style.signed(_delta(card), decimals), _tokens(card)] for card in data.cards],
        hovertemplate="<b>feature %{customdata[0]}</b><br>change %{customdata[1]}<br>promotes %{customdata[2]}<extra></extra>",
    )  # fmt: skip
    figure = go.Figure([rest, measured])
    figure.update_layout(
        **interactive.base_layout(560), showlegend=False, margin={"l": 20, "r": 20, "t": 10, "b": 20}
    )
    for axis in (figure.update_xaxes, figure.update_yaxes):
        axis(showgrid=False, zeroline=False, showticklabels=False)
    return interactive.Interactive(
        name="feature-map",
        figure=figure,
        description=f"Map of features. {data.title}. {data.note}.",
        min_width=360,
    )


def _tokens(card: FeatureCard) -> str:
    return interactive.safe(" ".join(shown_token(token).strip() for token, _ in card.promoted[:6]))
