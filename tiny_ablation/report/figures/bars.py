"""Bars across, one below the other: values with their intervals, or spans of time.

A filled mark is a value whose interval excludes 0, an open grey one a value that cannot be told from none.
"""

import plotly.graph_objects as go
from matplotlib.figure import Figure

from tiny_ablation.document.figures import Bar, Bars
from tiny_ablation.report.figures import canvas, fonts, interactive, style

_ROW, _LETTER, _WIDTH = 0.22, 0.07, 3.6  # inches


def _colour(bar: Bar) -> str:
    if bar.value is None:
        return style.CATEGORIES[0]
    if not bar.resolved:
        return style.UNRESOLVED
    return style.BELOW if bar.value < 0 else style.ABOVE


def _reach(bar: Bar) -> tuple[float, float]:
    """How far the interval reaches below and above the value (a bootstrap interval is not symmetric)."""
    value = bar.start if bar.value is None else bar.value
    return max(0.0, value - bar.start), max(0.0, bar.end - value)


def static(data: Bars) -> Figure:
    """The bars for print."""
    n = len(data.bars)
    body = _ROW * max(4, n)
    left = max(1.35, 0.3 + _LETTER * max((len(bar.label) for bar in data.bars), default=0))
    full = left + _WIDTH + 0.5 + _LETTER * max((len(bar.beside) for bar in data.bars), default=0)
    top = canvas.header_height(full, data.title, data.note) + 0.1
    figure = canvas.blank(full, top + body + (0.95 if data.key else 0.7))
    canvas.header(figure, data.title, data.note)
    axes = canvas.add_axes(figure, left, top, _WIDTH, body)
    axes.axvline(0.0, color=style.MUTED, linewidth=0.8, zorder=1)
    axes.grid(axis="x", color=style.LINE, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.margins(x=0.06)
    beside = {"transform": axes.get_yaxis_transform(), "va": "center", "family": style.NUMBER_FONT}
    for y, bar in enumerate(data.bars):
        colour = _colour(bar)
        if bar.value is None:
            axes.barh(y, bar.end - bar.start, left=bar.start, height=0.62, color=colour)
        else:
            marks = {"marker": "o", "markersize": 4.5, "markerfacecolor": colour if bar.resolved else style.PAPER}
            ends = [[end] for end in _reach(bar)]
            axes.errorbar(bar.value, y, xerr=ends, color=colour, elinewidth=1.4, zorder=3, **marks)
        axes.text(1.04, y, fonts.drawable(bar.beside), fontsize=style.TICK_SIZE - 0.5, color=style.MUTED, **beside)
    axes.set_ylim(n - 0.4, -0.6)
    axes.set_yticks(range(n), [fonts.drawable(bar.label) for bar in data.bars], fontsize=style.TICK_SIZE)
    axes.set_xlabel(data.x_title, fontsize=style.LABEL_SIZE, labelpad=6)
    where = left + _WIDTH / 2, top + body + 0.58
    canvas.write(figure, *where, data.key, ha="center", fontsize=style.TICK_SIZE, color=style.MUTED)
    return figure


def page(data: Bars) -> interactive.Interactive:
    """The bars for a page."""
    n = len(data.bars)
    figure = go.Figure([_trace(bar, y) for y, bar in enumerate(data.bars)])
    figure.update_layout(
        **interactive.base_layout(110 + 26 * n),
        showlegend=False,
        margin={"l": 30 + 7 * max((len(bar.label) for bar in data.bars), default=0), "r": 20, "t": 10, "b": 60},
    )
    title = interactive.safe(data.x_title)
    figure.update_xaxes(title_text=title, zeroline=True, zerolinecolor=style.MUTED, gridcolor=style.LINE)
    labels = [interactive.safe(bar.label) for bar in data.bars]
    figure.update_yaxes(tickvals=list(range(n)), ticktext=labels, range=[n - 0.4, -0.6], showgrid=False, zeroline=False)
    description = f"{data.kind}. {data.title}. {data.x_title}; {data.note}."
    return interactive.Interactive(name=data.name, figure=figure, description=description, min_width=360)


def _trace(bar: Bar, y: int) -> go.Scatter | go.Bar:
    colour, (below, above) = _colour(bar), _reach(bar)
    site, *lines = (interactive.safe(line) for line in bar.hover)
    unsure = "" if bar.resolved else "<br><i>unresolved: the interval includes 0</i>"
    told = {
        "customdata": [["<br>".join(lines)]],
        "text": [site],
        "hovertemplate": f"<b>%{{text}}</b><br>%{{customdata[0]}}{unsure}<extra></extra>",
    }
    if bar.value is None:
        span = {"orientation": "h", "base": [bar.start], "x": [bar.end - bar.start], "y": [y], "width": 0.62}
        return go.Bar(**span, textposition="none", marker={"color": colour}, **told)
    ends = {"type": "data", "symmetric": False, "array": [above], "arrayminus": [below]}
    return go.Scatter(
        x=[bar.value],
        y=[y],
        mode="markers",
        marker={"size": 8, "color": colour, "symbol": "circle" if bar.resolved else "circle-open"},
        error_x={**ends, "color": colour, "thickness": 2, "width": 0},
        **told,
    )
