"""Where a run's time went: its stages one after the other, with their memory."""

from dataclasses import dataclass

import plotly.graph_objects as go
from matplotlib.figure import Figure

from tiny_ablation.report.figures import canvas, interactive, style
from tiny_ablation.report.figures.source import RunSource
from tiny_ablation.store.files import read_json

DRAWING = "figures and report"  # the stage that draws this is not over when it is drawn
_LEFT, _ROW, _WIDTH, _LETTER = 1.6, 0.3, 3.2, 0.068  # inches


@dataclass(frozen=True)
class Timeline:
    """Everything that both renderings draw.

    Attributes:
        title: what was done, to what, on what.
        note: total time and the most memory.
        stages: name, start and length in seconds, and what is said beside the bar.
    """

    title: str
    note: str
    stages: list[tuple[str, float, float, str]]


def has_profile(source: RunSource) -> bool:
    """Whether the stages of the run were timed."""
    return source.run.profile.is_file()


def collect(source: RunSource) -> Timeline:
    """Read the stages off `metrics/profile.json`."""
    content = read_json(source.run.profile)
    stages, start = [], 0.0
    for name, entry in content["stages"].items():
        if name != DRAWING:
            stages.append((name, start, entry["wall_s"], _beside(entry)))
            start += entry["wall_s"]
    rate = content["stages"].get("measure", {}).get("prompt_tokens_per_s")
    said = [f"{start:.1f} s in all before the figures were drawn"]
    said += [f"measured {rate:,.0f} tokens of interventions x prompts a second"] if rate else []
    return Timeline(f"{source.title}: time", "; ".join(said), stages)


def _beside(entry: dict) -> str:
    parts = [f"{entry['wall_s']:.1f} s", f"{entry.get('rss_peak_bytes', entry['rss_bytes']) / 2**30:.2f} GiB"]
    cores = entry["cpu_s"] / entry["wall_s"] if entry["wall_s"] > 0.05 else None
    parts += [f"{cores:.1f} cores"] if cores is not None else []
    if entry.get("tokens"):
        parts.append(f"{entry['tokens_per_s']:,.0f} tokens/s")
    if entry.get("gpu_bytes"):
        parts.append(f"{entry['gpu_bytes'] / 2**30:.2f} GiB on the GPU")
    watts = entry.get("gpu_watts") or entry.get("watts")
    parts += [f"{watts:.0f} W"] if watts else []
    return ", ".join(parts)


def static(data: Timeline) -> Figure:
    """The timeline for print."""
    full = _LEFT + _WIDTH + 0.5 + _LETTER * max((len(said) for *_, said in data.stages), default=0)
    top = canvas.header_height(full, data.title, data.note) + 0.1
    body = _ROW * len(data.stages)
    figure = canvas.blank(full, top + body + 0.7)
    canvas.header(figure, data.title, data.note)
    axes = canvas.add_axes(figure, _LEFT, top, _WIDTH, body)
    axes.grid(axis="x", color=style.LINE, linewidth=0.5)
    axes.set_axisbelow(True)
    beside = {"transform": axes.get_yaxis_transform(), "va": "center", "color": style.MUTED}
    for y, (_, start, length, said) in enumerate(data.stages):
        axes.barh(y, length, left=start, height=0.62, color=style.CATEGORIES[0])
        axes.text(1.03, y, said, fontsize=style.TICK_SIZE, **beside)
    axes.set_yticks(range(len(data.stages)), [name for name, *_ in data.stages])
    axes.set_ylim(len(data.stages) - 0.4, -0.6)
    axes.set_xlim(left=0.0)
    axes.set_xlabel("seconds since the start", fontsize=style.LABEL_SIZE, labelpad=6)
    return figure


def page(data: Timeline) -> interactive.Interactive:
    """The timeline for a page."""
    names = [interactive.safe(name) for name, *_ in data.stages]
    figure = go.Figure(go.Bar(
        orientation="h", y=names, base=[start for _, start, *_ in data.stages], x=[length for *_, length, _ in data.stages],
        text=[said for *_, said in data.stages], textposition="none", marker={"color": style.CATEGORIES[0]},
        hovertemplate="<b>%{y}</b><br>%{text}<extra></extra>",
    ))  # fmt: skip
    figure.update_layout(
        **interactive.base_layout(110 + 30 * len(names)), margin={"l": 110, "r": 15, "t": 10, "b": 55}
    )
    figure.update_xaxes(title_text="seconds since the start", gridcolor=style.LINE, zeroline=False)
    figure.update_yaxes(autorange="reversed", showgrid=False)
    return interactive.Interactive(
        name="timeline", figure=figure, min_width=340,
        description=f"Timeline. {data.title}. Stages down, seconds since the start across; {data.note}.",
    )  # fmt: skip
