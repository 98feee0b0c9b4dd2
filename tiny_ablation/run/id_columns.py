"""Whose rows these are: the first columns of every table."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tiny_ablation.run.prepare import PreparedRun

if TYPE_CHECKING:
    import pandas as pd


def named(prepared: PreparedRun, frame: "pd.DataFrame") -> "pd.DataFrame":
    """Put the run's id and seed in front of a table's columns; returns the same table."""
    frame.insert(0, "run_id", prepared.identity.run_id)
    frame.insert(1, "seed", prepared.spec.settings.root.seed)
    return frame


def stacked(prepared: PreparedRun, frames: "Sequence[pd.DataFrame]") -> "pd.DataFrame | None":
    """The rows of several tables as one, `named`; None where there is none."""
    import pandas as pd

    return named(prepared, pd.concat(frames, ignore_index=True)) if frames else None
