"""The map of features: decoder directions on a plane, near each other where they point alike.

Grey is every feature of the autoencoder, larger where it is active more often; colour is the effect of the measured ones, as
far as its interval excludes 0. An open circle is a measured feature whose effect cannot be told from none.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from matplotlib.figure import Figure

from tiny_ablation import formats
from tiny_ablation.document import Drawn
from tiny_ablation.document.figures import symmetric_limit
from tiny_ablation.report.figures import canvas, interactive, style
from tiny_ablation.report.figures.feature_data import FeatureCard, feature_cards, shown_token
from tiny_ablation.run import effects, vocabulary
from tiny_ablation.run.result import Result
from tiny_ablation.store.files import read_table

_WIDTH, _SIDE = 7.2, 5.4  # inches
_BELOW = 90  # pixels
_NAMED = 6  # features with their number in the PNG


@dataclass(frozen=True)
class FeatureMap(Drawn):
    """Everything that both renderings draw."""

    metric: str
    places: pd.DataFrame
    cards: list[FeatureCard]

    @property
    def limit(self) -> float:
        """The colours reach from minus this to this."""
        return symmetric_limit(card.strongest.delta for card in self.cards)

    @property
    def sizes(self) -> np.ndarray:
        """The diameter of every feature, in points."""
        return 1.5 + 4 * np.sqrt(self.places["frequency_text"].to_numpy())

    def measured(self) -> pd.DataFrame:
        """The measured features in the order of `cards`: places, `delta` and `resolved` of the strongest effect."""
        found = self.places.set_index("feature").loc[[card.number for card in self.cards]]
        strongest = [card.strongest for card in self.cards]
        return found.assign(delta=[e.delta for e in strongest], resolved=[e.resolved for e in strongest])


def collect(result: Result) -> FeatureMap:
    """Read the map off a run that has `metrics/feature_map.parquet`."""
    places = read_table(result.run.metrics / "feature_map.parquet")
    method = places["method"].iloc[0] if len(places) else "PCA"
    n = effects.examples(result.rows)
    note = f"{method} of {len(places)} decoder directions; {n}; grey: not measured; open circle: the interval includes 0"
    return FeatureMap("feature-map", result.title, note, result.metric, places, feature_cards(result))


def static(data: FeatureMap) -> Figure:
    """The map for print."""
    top = canvas.header_height(_WIDTH, data.title, data.note)
    figure = canvas.blank(_WIDTH, top + _SIDE + 0.85)
    canvas.header(figure, data.title, data.note)
    axes = canvas.add_axes(figure, 0.4, top, _WIDTH - 0.8, _SIDE)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.scatter(data.places["x"], data.places["y"], s=data.sizes**2, color=style.LINE, linewidths=0)
    found = data.measured()
    sure = found["resolved"].to_numpy(dtype=bool)
    colours = {"c": found["delta"][sure], "cmap": canvas.diverging(), "vmin": -data.limit, "vmax": data.limit}
    axes.scatter(found["x"][sure], found["y"][sure], s=46, edgecolors=style.INK, linewidths=0.6, **colours)
    axes.scatter(found["x"][~sure], found["y"][~sure], s=40, facecolor=style.PAPER, edgecolors=style.UNRESOLVED, linewidths=1.2)
    for number, x, y in list(zip(found.index, found["x"], found["y"], strict=True))[:_NAMED]:
        axes.annotate(str(number), (x, y), xytext=(5, 4), textcoords="offset points", fontsize=style.TICK_SIZE)
    canvas.colour_bar(figure, top + _SIDE + 0.15, data.limit, vocabulary.change_label(data.metric))
    return figure


def page(data: FeatureMap) -> interactive.Interactive:
    """The map for a page."""
    places, found = data.places, data.measured()
    rest = go.Scattergl(
        x=places["x"],
        y=places["y"],
        mode="markers",
        marker={"size": 2 * data.sizes, "color": style.UNRESOLVED, "opacity": 0.4},
        customdata=[[int(n), f"{f:.2%}"] for n, f in zip(places["feature"], places["frequency_text"], strict=True)],
        hovertemplate="feature %{customdata[0]}<br>active on %{customdata[1]} of text<extra></extra>",
    )
    figure = go.Figure([rest, *(_marks(data, found, resolved=resolved) for resolved in (True, False))])
    figure.update_layout(
        **interactive.base_layout(620),
        showlegend=False,
        margin={"l": 20, "r": 20, "t": 10, "b": _BELOW},
        coloraxis=interactive.colour_axis(figure, vocabulary.change_label(data.metric), _BELOW, data.limit),
    )
    for axis in (figure.update_xaxes, figure.update_yaxes):
        axis(showgrid=False, zeroline=False, showticklabels=False)
    description = f"Map of features. {data.title}. {data.note}."
    return interactive.Interactive(name=data.name, figure=figure, description=description, min_width=360)


def _marks(data: FeatureMap, found: pd.DataFrame, *, resolved: bool) -> go.Scatter:
    """The measured features whose effect is resolved, or those whose effect is not."""
    of = (found["resolved"] == resolved).to_numpy()
    places = formats.decimals(card.strongest.delta for card in data.cards)
    told = []
    for card, shown in zip(data.cards, of, strict=True):
        if shown:
            tokens = interactive.safe(" ".join(shown_token(token).strip() for token, _ in card.promoted[:6]))
            told.append([card.number, formats.signed(card.strongest.delta, places), tokens])
    coloured = {"color": found["delta"][of].tolist(), "coloraxis": "coloraxis", "line": {"width": 1, "color": style.MUTED}}
    grey = {"color": style.UNRESOLVED, "symbol": "circle-open", "line": {"width": 2}}
    unsure = "" if resolved else "<br><i>unresolved: the interval includes 0</i>"
    return go.Scatter(
        x=found["x"][of],
        y=found["y"][of],
        mode="markers",
        marker={"size": 12, **(coloured if resolved else grey)},
        customdata=told,
        hovertemplate=f"<b>feature %{{customdata[0]}}</b><br>change %{{customdata[1]}}<br>promotes %{{customdata[2]}}{unsure}"
        "<extra></extra>",
    )
