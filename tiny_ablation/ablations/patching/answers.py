"""What patching answers: where the answer enters the residual stream, and whether what restores the behaviour breaks it too."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tiny_ablation.ablations.patching.patch_ablation import PAIR, Ends
from tiny_ablation.ablations.patching.recovered import share_of_advantage
from tiny_ablation.config.seeds import generator
from tiny_ablation.document import Section, Table
from tiny_ablation.formats import bounds, number, percent, plain, signed
from tiny_ablation.models.labels import site_label
from tiny_ablation.run.measure import Measured, aligned
from tiny_ablation.run.prepare import PreparedRun
from tiny_ablation.stats.bootstrap_t import resample_groups
from tiny_ablation.stats.clusters import cluster_sums

if TYPE_CHECKING:
    import pandas as pd

_DRAWS, _FIRM, _SHOWN = 1000, 0.8, 5
_SITE = ("layer", "head", "position", "granularity")
_NUMBERS = ("restoring", "breaking", "asymmetry", "asymmetry_low", "asymmetry_high")


def entry(prepared: PreparedRun, measured: Sequence[Measured], names: Ends = PAIR) -> dict[str, Any] | None:
    """At which block the clean run's advantage comes into the residual stream, where that was patched block by block.

    With `recovered` the share of the advantage that the corrupt run has when it gets the clean residual stream behind a block
    (of two models: the base with that of the tuned one), a block's step is its `recovered` less that of the block before.

    Returns:
        `positions`, the tokens that were patched; `steps`, for each block its `layer`, the share recovered `before` and `after`
        it, the `step` with `low` and `high`, and `largest`, the share of resamples of the groups in which its step is the
        largest; None where nothing like it was measured.
    """
    patched = next((m for m in measured if m.arm.in_table and m.arm.run == names[0]), None)
    whole = next((m for m in measured if m.arm.run == names[1]), None)
    if patched is None or whole is None or not _is_residual_stream(patched):
        return None
    patched, whole = aligned([patched, whole])
    if not len(patched.examples):
        return None
    name, groups = prepared.metrics[0].name, patched.groups
    ends = {each.arm.run: each.baseline[name] for each in (patched, whole)}
    changes = np.diff(np.vstack([patched.baseline[name], patched.values[name]]), axis=0)
    found = share_of_advantage(prepared, changes, ends, groups, names)
    reached = np.concatenate([[0.0], found.ratio.cumsum()])  # shares of one advantage add up
    sums, sizes = cluster_sums(changes, groups)
    drawn = resample_groups(len(sizes), _DRAWS, generator(prepared.spec.settings.root.seed, "entry", name))
    largest = np.bincount((drawn @ sums.T).argmax(1), minlength=len(changes)) / _DRAWS
    low, high = (np.where(found.bounded, end, np.nan) for end in (found.low, found.high))
    columns = {"before": reached[:-1], "after": reached[1:], "step": found.ratio, "low": low, "high": high, "largest": largest}
    steps = [
        {"layer": int(row.key["layer"]), **{name: float(column[i]) for name, column in columns.items()}}
        for i, row in enumerate(patched.arm.rows)
    ]
    return {"positions": patched.arm.rows[0].described.positions, "steps": steps}


def _is_residual_stream(measured: Measured) -> bool:
    """Whether its rows are the residual stream behind every block from the first on, at one choice of tokens."""
    rows = measured.arm.rows
    if len(rows) < 2 or measured.arm.self_patch or "position" in rows[0].key:
        return False
    kinds = {(row.described.granularity, row.described.positions) for row in rows}
    in_order = [row.key["layer"] for row in rows] == list(range(len(rows)))
    return len(kinds) == 1 and rows[0].described.granularity == "layer_resid" and in_order


def entry_sections(found: Mapping[str, Any] | None) -> list[Section]:
    """Where the answer enters, with the largest steps."""
    if not found:
        return []
    steps = sorted(found["steps"], key=lambda step: -step["step"])
    top = steps[0]
    firm = top["largest"] >= _FIRM and number(top["low"]) > 0
    stream = {"last": "the last token's residual stream", "subject": "the subject's residual stream"}.get(
        found["positions"], "the residual stream"
    )
    behind = (
        f"the clean run's residual stream recovers {_percent(top['after'])} of the clean run's advantage behind it and "
        f"{_percent(top['before'])} before it"
    )
    headline = (
        f"The answer enters {stream} at block {top['layer']}: {behind}."
        if firm
        else f"No one block is where the answer enters {stream}: the largest step is at block {top['layer']}, where {behind}, "
        f"and it is the largest in {_percent(top['largest'])} of resamples of the groups."
    )
    rows = [
        (
            str(step["layer"]),
            plain(step["before"], 2),
            plain(step["after"], 2),
            signed(step["step"], 2),
            bounds(step["low"], step["high"], 2),
            _percent(step["largest"]),
        )
        for step in steps[:_SHOWN]
    ]
    caption = (
        "The largest steps of the share recovered: behind the block, less behind the one before, with its interval; largest: "
        "in how many resamples of the groups of examples this step is the largest."
    )
    table = Table(caption, ("block", "before", "behind", "step", "interval", "largest"), rows)
    return [Section("Where the answer enters", (), [table], headline, firm=firm)]


def balance(asymmetry: "pd.DataFrame | None", confidence: float) -> dict[str, Any] | None:
    """How many sites restore more than they break, or less, and the site where the two differ most; None where one was run."""
    if asymmetry is None:
        return None
    rows: list[dict[Any, Any]] = asymmetry.to_dict("records")
    more = [row for row in rows if row["asymmetry_low"] > 0]
    less = [row for row in rows if row["asymmetry_high"] < 0]
    most = max([*more, *less], key=lambda row: abs(row["asymmetry"]), default=None)
    if most is not None:
        site = site_label({name: most[name] for name in _SITE if name in most}, sentence=True)
        most = {"site": site, **{name: float(most[name]) for name in _NUMBERS}}
    return {"n": len(rows), "more": len(more), "less": len(less), "confidence": confidence, "most": most}


def balance_sections(found: Mapping[str, Any] | None) -> list[Section]:
    """Whether what restores the behaviour is also what breaks it."""
    if not found:
        return []
    n, most = found["n"], found["most"]
    chance = (1 - found["confidence"]) * n
    firm = found["more"] + found["less"] > chance
    text = [
        f"Of {n} sites, {found['more']} restore more of the clean run's advantage than they break, which happens where another "
        f"part does the work of a broken one, and {found['less']} break more than they restore, which happens where a part "
        f"needs others; about {chance:.1f} of the {percent(found['confidence'])} intervals would exclude 0 by chance."
    ]
    if most is None or not firm:
        headline = "What restores the behaviour is what breaks it: no site differs beyond what chance would give."
    else:
        headline = (
            f"Restoring and breaking differ most at {most['site']}: its clean value restores {_percent(most['restoring'])} of "
            f"the advantage, its corrupt value breaks {_percent(most['breaking'])} (difference {signed(most['asymmetry'], 2)} "
            f"{bounds(most['asymmetry_low'], most['asymmetry_high'], 2)})."
        )
    return [Section("Restoring against breaking", text, (), headline, firm=firm)]


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
