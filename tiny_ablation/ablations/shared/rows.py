"""Rows of the impact tables for kinds that replace whole heads or whole layers, one at a time."""

from typing import Any

from tiny_ablation.ablations.shared.sites import Head
from tiny_ablation.engine.edits import Edit, Intervention, Replacement
from tiny_ablation.run.plan import InterventionSpec, Row


def head_row(cfg: Any, site: Head, *replacements: Replacement) -> Row:
    """A row of `head_impact`; several replacements are draws whose values are averaged.

    Args:
        cfg: a `HeadSitesConfig`.
        site: (layer, head) on the axis of the component.
        replacements: at least one.
    """
    layer, head = site
    first, *more = [Intervention((Edit(cfg.component, layer, head, r, cfg.positions),)) for r in replacements]
    # As everywhere, scale is the share of the head's own value that is kept: none.
    return Row(
        key={"layer": layer, "head": head, "scale": 0.0},
        intervention=first,
        described=InterventionSpec("head", cfg.component, replacements[0].name, cfg.positions, "clean"),
        draws=tuple(more),
    )


def layer_row(cfg: Any, component: str, layer: int, replacement: Replacement) -> Row:
    """A row of `layer_impact` for `attn_out` or `mlp_out`.

    Args:
        cfg: a `LayerSitesConfig`.
        component: what is replaced, which is also the row's granularity.
        layer: the block.
        replacement: what is put there.
    """
    return Row(
        key={"layer": layer, "granularity": component},
        intervention=Intervention((Edit(component, layer, None, replacement, cfg.positions),)),
        described=InterventionSpec(component, component, replacement.name, cfg.positions, "clean"),
    )
