"""What patching shows: a map of positions by layers, and restoring against breaking."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from tiny_ablation import formats
from tiny_ablation.ablations.patching.causal_trace import NAMES
from tiny_ablation.data.text import natural_key
from tiny_ablation.document import Figure
from tiny_ablation.document.figures import Grid, GridPanel, Points, symmetric_limit
from tiny_ablation.run import effects, vocabulary
from tiny_ablation.run.result import Result
from tiny_ablation.store.files import read_table

_NAMED = 12  # points whose labels still stand apart
_PARTS = {
    "layer_resid": "residual stream (layer_resid)",
    "mlp_out": "MLP outputs (mlp_out)",
    "attn_out": "attention outputs (attn_out)",
}


def figures(result: Result, effect_name: str) -> Iterator[Figure]:
    """Those that the run has the numbers of; `effect_name` is what the literature calls its effects, empty for no name."""
    if result.index == ("layer", "position", "granularity"):
        yield Figure(
            "trace",
            "Where and when: positions by layers",
            "Positions of the prompt down, layers across. A full cell is an effect whose interval excludes 0; a pale one "
            f"with a dot is one whose interval includes 0. {vocabulary.signs(result.metric)}",
            trace(result, effect_name),
        )
    rows = asymmetry_rows(result)
    if rows is not None:
        yield Figure(
            "asymmetry",
            "Restoring against breaking",
            "Each point is a site. Above the line it restores more than its loss breaks: it is enough, but something else can "
            "stand in for it. Grey points cannot be told from the line.",
            asymmetry(result, rows),
        )


def trace(result: Result, effect_name: str) -> Grid:
    """Positions down, layers across, a panel per granularity (and direction): the layout of Meng et al. 2022, figure 1."""
    rows = result.rows
    # In the order in which a prompt holds them.
    order = {name: i for i, name in enumerate(NAMES)}
    names = sorted(set(rows["position"]), key=lambda name: (order.get(name, len(NAMES)), natural_key(name)))
    layers = sorted(set(rows["layer"]))
    panels = []
    for granularity, same in rows.groupby("granularity", sort=False):
        for direction, part in same.groupby("direction", sort=False):
            values = np.full((len(names), len(layers)), np.nan)
            resolved = np.zeros(values.shape, dtype=bool)
            hover: list[list[tuple[str, ...]]] = [[()] * len(layers) for _ in names]
            places = formats.decimals(part["delta"])
            for row in part.to_dict("records"):
                i, j = names.index(row["position"]), layers.index(row["layer"])
                values[i, j], resolved[i, j] = row["delta"], row["resolved"]
                hover[i][j] = *effects.hover_numbers(row, places)[:3], str(row["n"])
            heading = _PARTS.get(str(granularity), str(granularity))
            heading = f"{heading}, {direction}" if result.several_directions else heading
            panels.append(GridPanel(heading, values, resolved, hover))
    return Grid(
        name=f"trace-{result.metric}",
        kind="Map of positions and layers",
        title=result.title,
        note=f"{effects.examples(rows)}; a full cell is an effect whose interval excludes 0, a pale one with a dot one "
        "whose interval includes it",
        rows=[name.replace("_", " ") for name in names],
        columns=[str(layer) for layer in layers],
        axes=("position", "layer"),
        colour=f"{effect_name}{': ' if effect_name else ''}{vocabulary.change_label(result.metric)}",
        limit=symmetric_limit(rows["delta"]),
        panels=panels,
        hover=f"change {{0}}\n{result.percent} interval {{1}}\nq {{2}}\n{{3}} examples",
    )


def asymmetry_rows(result: Result) -> pd.DataFrame | None:
    """Its rows where both directions were run and shares are defined, which takes pairs whose prompts differ in the metric."""
    path = result.run.metrics / "asymmetry.parquet"
    rows = read_table(path).dropna(subset=["restoring", "breaking"]) if path.is_file() else pd.DataFrame()
    return None if rows.empty else rows


def asymmetry(result: Result, rows: pd.DataFrame) -> Points:
    """What a site brings back against what its loss breaks; above the line it restores more than it breaks."""
    index = [name for name in result.index if name in rows]
    ends = zip(rows["asymmetry_low"], rows["asymmetry_high"], strict=True)
    unsure = np.array([formats.holds_zero(*each) for each in ends], dtype=bool)
    return Points(
        name=f"asymmetry-{result.metric}",
        kind="Asymmetry of patching",
        title=f"{result.title}: restoring against breaking",
        note=f"{effects.examples(rows)}; filled: the {result.percent} interval of the difference excludes "
        "0; above the line: enough to restore but not needed; below: needed but not enough",
        x_title=f"breaking: share of {result.metric} lost",
        y_title=f"restoring: share of {result.metric} brought back",
        x=rows["breaking"].to_numpy(dtype=float),
        y=rows["restoring"].to_numpy(dtype=float),
        labels=[effects.label(row, index) for row in rows.to_dict("records")],
        shown=int((~unsure).sum()) <= _NAMED,
        diagonal=True,
        unsure=unsure,
    )
