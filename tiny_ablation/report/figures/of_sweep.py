"""The figures of a sweep: those of each comparison of its conditions, and how far ways of intervening agree."""

import re
from collections.abc import Iterator
from dataclasses import replace

from tiny_ablation.document import Figure
from tiny_ablation.report.figures import sweep_grids, sweep_lines
from tiny_ablation.report.sweep_data import Comparison
from tiny_ablation.run import vocabulary


def comparison_figures(data: Comparison) -> list[Figure]:
    """The figures that suit a comparison; their names tell comparisons apart."""
    stem = f"{data.table.removesuffix('_impact')}_{data.metric}_{data.model}"
    stem = re.sub(r"[^\w.-]", "-", stem)  # a model's name comes from a config
    return [replace(figure, name=f"{figure.name}_{stem}") for figure in _figures(data)]


def _figures(data: Comparison) -> Iterator[Figure]:
    several = len(data.profiles) > 1
    yield Figure(
        "matrix", "The strongest, by condition",
        "A row is a site, a column a condition, the number its mean change. Bold rows are invariant; an outline says that "
        "the site is in that condition's top set; a grey number cannot be told from 0.",
        sweep_grids.matrix(data),
    )  # fmt: skip
    if several:
        yield Figure(
            "overlap", "What do conditions share?",
            "Each column is a group of sites that are in the top sets of exactly the conditions with a filled dot; the bar "
            "says how many. The blue bar, if there is one, is what all conditions share.",
            sweep_lines.overlap(data),
        )  # fmt: skip
    if data.index == ("layer", "head"):
        yield Figure(
            "heads", "Every head, by condition",
            "Layers down, heads across, a panel per condition, the same colours in all. Outlined heads are invariant; a grey "
            f"dot is a change that cannot be told from 0. {vocabulary.signs(data.metric)}",
            sweep_grids.head_maps(data),
        )  # fmt: skip
    if data.index[:1] == ("layer",):
        yield Figure(
            "layers", "Where in the model?",
            "A line per condition, from the first layer to the last. Lines that rise and fall together depend on the "
            "same depth.",
            sweep_lines.profiles(data),
        )  # fmt: skip
    if several and data.geometry:
        yield Figure(
            "agreement", "Do conditions rank alike?",
            "Rank correlation of the changes at all sites, for every two conditions: 1 is the same order, 0 unrelated, "
            "-1 reversed.",
            sweep_grids.agreement(data),
        )  # fmt: skip
    if len(data.geometry.get("principal_components", ())) > 1:
        yield Figure(
            "conditions", "How far apart are the conditions?",
            "The two directions in which the conditions differ most. Near each other: they depend on the same sites.",
            sweep_lines.condition_map(data),
        )  # fmt: skip
