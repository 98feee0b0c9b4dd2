"""Which sites several conditions share: an UpSet plot (Lex et al. 2014).

A column is a group of sites that are in the top sets of exactly the conditions with a filled dot; the bar above is how many.
"""

import plotly.graph_objects as go
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from plotly.subplots import make_subplots

from tiny_ablation.document.figures import Overlap
from tiny_ablation.report.figures import canvas, fonts, interactive, style

_COLUMN, _ROW, _BARS, _LETTER = 0.34, 0.28, 1.7, 0.078  # inches
_SHOWN = 12  # sites named in a hover


def _labels(data: Overlap) -> list[str]:
    """The conditions with their sizes."""
    return [f"{name} ({size})" for name, size in data.conditions]


def _colour(data: Overlap, members: tuple[int, ...]) -> str:
    """What all conditions share stands out."""
    return style.CATEGORIES[0] if len(members) == len(data.conditions) else style.MUTED


def static(data: Overlap) -> Figure:
    """The UpSet plot for print."""
    left = 0.5 + _LETTER * max(map(len, _labels(data)))
    width, height = max(2.4, _COLUMN * len(data.groups)), _ROW * len(data.conditions)
    full = max(5.6, left + width + 0.4)
    top = canvas.header_height(full, data.title, data.note) + 0.2
    figure = canvas.blank(full, top + _BARS + 0.15 + height + 0.55)
    canvas.header(figure, data.title, data.note)
    bars = canvas.add_axes(figure, left, top, width, _BARS)
    dots = canvas.add_axes(figure, left, top + _BARS + 0.15, width, height)
    places, sizes = range(len(data.groups)), [len(sites) for _, sites in data.groups]
    bars.bar(places, sizes, width=0.62, color=[_colour(data, members) for members, _ in data.groups])
    for x, size in zip(places, sizes, strict=True):
        bars.text(x, size, str(size), ha="center", va="bottom", fontsize=style.TICK_SIZE)
    bars.set_ylabel(data.many, fontsize=style.LABEL_SIZE)
    bars.set_ylim(0, max(sizes, default=1) * 1.15)
    bars.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))
    bars.set_xticks([])
    for x, (members, _) in enumerate(data.groups):
        dots.scatter([x] * len(data.conditions), range(len(data.conditions)), s=42, color=style.LINE, linewidths=0)
        dots.plot([x] * len(members), members, "-o", color=_colour(data, members), markersize=6.5, linewidth=1.6)
    dots.set_yticks(range(len(data.conditions)), [fonts.drawable(x) for x in _labels(data)])
    dots.set_ylim(len(data.conditions) - 0.5, -0.5)
    dots.set_xticks([])
    for axes in (bars, dots):
        axes.set_xlim(-0.6, max(len(data.groups), 4) - 0.4)
    dots.set_xlabel("filled: in the condition's top set", fontsize=style.LABEL_SIZE)
    return figure


def page(data: Overlap) -> interactive.Interactive:
    """The UpSet plot for a page."""
    rows = len(data.conditions)
    height = 250 + 30 * rows
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.04, row_heights=[190, 30 * rows])
    places = list(range(len(data.groups)))
    sizes = [len(sites) for _, sites in data.groups]
    bars = {"x": places, "y": sizes, "text": sizes, "textposition": "outside", "cliponaxis": False, "width": 0.62}
    colours = {"color": [_colour(data, members) for members, _ in data.groups]}
    told = {"customdata": [_hover(data, *group) for group in data.groups], "hovertemplate": "%{customdata}<extra></extra>"}
    figure.add_trace(go.Bar(**bars, **told, marker=colours, showlegend=False), row=1, col=1)
    empty = [(x, y) for x, (members, _) in enumerate(data.groups) for y in range(rows) if y not in members]
    dots = [_marks([x for x, _ in empty], [y for _, y in empty], style.LINE, "markers")]
    for x, (members, _) in enumerate(data.groups):
        dots.append(_marks([x] * len(members), list(members), _colour(data, members), "lines+markers"))
    for trace in dots:
        figure.add_trace(trace, row=2, col=1)
    left = 25 + 7 * max(map(len, _labels(data)))
    figure.update_layout(**interactive.base_layout(height), margin={"l": left, "r": 10, "t": 20, "b": 20})
    plain = {"zeroline": False, "ticks": ""}
    figure.update_xaxes(range=[-0.6, max(len(places), 4) - 0.4], showticklabels=False, showgrid=False, **plain)
    figure.update_yaxes(title_text=data.many, gridcolor=style.LINE, row=1, rangemode="tozero", **_whole(sizes), **plain)
    labels = [interactive.safe(label) for label in _labels(data)]
    figure.update_yaxes(tickvals=list(range(rows)), ticktext=labels, range=[rows - 0.5, -0.5], showgrid=False, row=2, **plain)
    return interactive.Interactive(
        name=data.name,
        figure=figure,
        min_width=left + 30 * len(places) + 40,
        description=f"UpSet plot. {data.title}. How many {data.many} are in the top sets of which conditions.",
    )


def _whole(sizes: list[int]) -> dict[str, int]:
    """Few sites have a tick each: plotly would put ticks at halves."""
    return {"dtick": 1} if max(sizes, default=1) < 6 else {}


def _marks(x: list[int], y: list[int], colour: str, mode: str) -> go.Scatter:
    drawn = {"line": {"color": colour, "width": 2}, "marker": {"color": colour, "size": 10}}
    return go.Scatter(x=x, y=y, mode=mode, showlegend=False, hoverinfo="skip", **drawn)


def _hover(data: Overlap, members: tuple[int, ...], sites: list[str]) -> str:
    names = interactive.safe(" and ".join(data.conditions[i][0] for i in members))
    more = f" and {len(sites) - _SHOWN} more" if len(sites) > _SHOWN else ""
    listed = [", ".join(sites[i : i + 4]) for i in range(0, min(len(sites), _SHOWN), 4)]
    return f"<b>{len(sites)} {data.many}: {names}</b><br>{interactive.safe('|'.join(listed)).replace('|', '<br>')}{more}"
