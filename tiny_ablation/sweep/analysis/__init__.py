"""What a sweep's finished runs say together: matrices, means over seeds, invariants, hypotheses, geometry.

A pure function of the files in the sweep's directory, so it can be repeated at any time, on any machine, to the same bytes.
It runs no model and needs none. Importing this module is light.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tiny_ablation.config.identity import RESULT_VERSION, hash_json
from tiny_ablation.config.schema import SweepConfig
from tiny_ablation.store.manifest import Status, write_manifest
from tiny_ablation.store.rundir import RunDir
from tiny_ablation.store.rundir_guard import reopened
from tiny_ablation.store.sweepdir import CellState, CellStatus, read_plan
from tiny_ablation.store.untrusted import reading


@dataclass(frozen=True)
class SweepOutcome:
    """How a sweep stands after it was aggregated."""

    path: Path  # the sweep's directory
    cells: tuple[CellState, ...]  # every planned cell, in the order of the plan
    warnings: tuple[str, ...] = ()  # what to know before using the results
    files: tuple[Path, ...] = field(default=())  # what was written, without the manifest

    def of(self, *states: CellStatus) -> Iterator[CellState]:
        """The cells in one of these states."""
        return (each for each in self.cells if each.state in states)

    @property
    def ok(self) -> list[CellState]:
        """Cells whose results are used."""
        return list(self.of("ok"))

    @property
    def failed(self) -> list[CellState]:
        """Cells that ended with an error, or whose files are damaged."""
        return list(self.of("failed"))

    @property
    def missing(self) -> list[CellState]:
        """Cells that are not finished: never started, killed, or stopped on the way."""
        return list(self.of("missing", "partial"))

    @property
    def complete(self) -> bool:
        """Whether every planned cell has results."""
        return not self.failed and not self.missing

    def counts(self) -> dict[str, int]:
        """How many cells are in each state that occurs."""
        return dict(Counter(each.state for each in self.cells))


def aggregate_sweep(sweep_dir: Path) -> SweepOutcome:
    """Write `artifacts/cross_condition/` and the manifest of a sweep from the files of its runs.

    Failed and missing cells are listed in `summary.json` and cost the others nothing. Equal files give equal bytes, from any
    working directory. Whoever adds figures or a page afterwards calls `write_sweep_manifest` again.

    Raises:
        ResultsError: it is no sweep, or its plan is damaged.
        ConfigError: the plan's `sweep` settings or hypotheses make no sense.
    """
    from tiny_ablation.sweep.analysis.aggregate import aggregate

    with reading(sweep_dir):
        read_plan(sweep_dir)
        with reopened(sweep_dir):
            return aggregate(sweep_dir)


def sweep_invariants(sweep_dir: Path, change: Callable[[SweepConfig], SweepConfig], *, write: bool = False) -> dict[str, Any]:
    """The content of `invariants.json` under other parameters than the sweep's own, which `change` makes of these.

    `write` replaces `invariants.json`, until `aggregate_sweep` writes it anew with the sweep's own parameters.

    Raises:
        ResultsError: it is no sweep, its plan is damaged, or it has no finished run.
        ConfigError: a parameter makes no sense.
    """
    from tiny_ablation.sweep.analysis.aggregate import invariants

    with reading(sweep_dir):
        read_plan(sweep_dir)
        with reopened(sweep_dir) if write else nullcontext():
            return invariants(sweep_dir, change, write=write)


def write_sweep_manifest(outcome: SweepOutcome) -> Path:
    """Write the sweep's own `manifest.json`; its runs have manifests of their own and are left out."""
    plan = read_plan(outcome.path)
    covers: dict[str, Any] = {
        "result_version": RESULT_VERSION,
        "plan_digest": plan.plan_digest,
        "settings_digest": hash_json(dict(plan.settings)),
        "hypotheses_digest": hypotheses_digest(plan.settings.get("hypotheses")),
        "cells": {each.cell.dir: each.digest if each.state == "ok" else None for each in outcome.cells},
    }
    digest, n_unused = hash_json(covers), len(outcome.failed) + len(outcome.missing)
    status: Status = "failed" if outcome.failed else "partial" if outcome.missing else "ok"
    return write_manifest(
        RunDir(outcome.path),
        run_id=digest[:16],
        status=status,
        digest=digest,
        covers=covers,
        error=f"{n_unused} of {len(outcome.cells)} cells have no results; see summary.json" if n_unused else None,
        extra={"kind": "sweep", "conditions": plan.conditions, "cells": outcome.counts()},
    )


def hypotheses_digest(declared: Any) -> str:
    """What identifies the list of declared hypotheses."""
    return hash_json(declared or {})
