"""Reading scatters off a run: what was computed again, and restoring against breaking."""

from typing import Any

import numpy as np
import pandas as pd

from tiny_ablation import formats
from tiny_ablation.report import tables, vocabulary
from tiny_ablation.report.figures.points import Points
from tiny_ablation.report.figures.source import RunSource
from tiny_ablation.store.files import read_json, read_table

_NAMED = 12  # points whose labels still stand apart


def _verified(source: RunSource) -> list[dict[str, Any]]:
    if not source.run.verify.is_file():
        return []
    return [
        site
        for site in read_json(source.run.verify).get("sites", ())
        if site.get("effect_verify") is not None
    ]


def has_verify(source: RunSource) -> bool:
    """Whether effects of several sites were computed again."""
    return len(_verified(source)) > 1


def verify(source: RunSource) -> Points:
    """Effects in the run against the same effects computed again by the plain reference."""
    found, sites = read_json(source.run.verify), _verified(source)
    return Points(
        name=f"verify-{source.metric}",
        kind="Verification",
        title=f"{source.title}, computed again",
        note=f"{len(sites)} sites on {found['n_examples']} examples; verdict: {found['verdict']}; largest difference of any "
        f"value {found['max_abs_diff']:.1e}; on the line both are equal",
        x_title=f"{found['device_verify']}: {vocabulary.change_label(source.metric)}",
        y_title=f"{found['device_main']}: {vocabulary.change_label(source.metric)}",
        x=np.array([site["effect_verify"] for site in sites]),
        y=np.array([site["effect_main"] for site in sites]),
        labels=[str(site["site"]) for site in sites],
        diagonal=True,
    )


def has_asymmetry(source: RunSource) -> bool:
    """Whether both directions of patching were run, and shares are defined: the two prompts of a pair differ in the metric."""
    return (source.run.metrics / "asymmetry.parquet").is_file() and not _asymmetry_rows(source).empty


def _asymmetry_rows(source: RunSource) -> pd.DataFrame:
    return read_table(source.run.metrics / "asymmetry.parquet").dropna(subset=["restoring", "breaking"])


def asymmetry(source: RunSource) -> Points:
    """What a site brings back against what its loss breaks; above the line it restores more than it breaks."""
    rows = _asymmetry_rows(source)
    index = [name for name in source.index if name in rows]
    unsure = [
        formats.holds_zero(*ends) for ends in zip(rows["asymmetry_low"], rows["asymmetry_high"], strict=True)
    ]
    return Points(
        name=f"asymmetry-{source.metric}",
        kind="Asymmetry of patching",
        title=f"{source.title}: restoring against breaking",
        note=f"{tables.examples(rows)}; filled: the {formats.percent(source.confidence)} interval of the difference excludes "
        "0; above the line: enough to restore but not needed; below: needed but not enough",
        x_title=f"breaking: share of {source.metric} lost",
        y_title=f"restoring: share of {source.metric} brought back",
        x=rows["breaking"].to_numpy(dtype=float),
        y=rows["restoring"].to_numpy(dtype=float),
        labels=[tables.label(row, index) for row in rows.to_dict("records")],
        shown=unsure.count(False) <= _NAMED,
        diagonal=True,
        unsure=np.array(unsure, dtype=bool),
    )
