"""The manifest of a sweep: its plan, its hypotheses, the digests of its runs, and the files that were made of them."""

from pathlib import Path
from typing import Any

from tiny_ablation.config.identity import RESULT_VERSION, hash_json
from tiny_ablation.store.manifest import Status, write_manifest
from tiny_ablation.store.rundir import RunDir
from tiny_ablation.store.sweepdir import read_plan
from tiny_ablation.sweep.analysis import SweepOutcome


def write(outcome: SweepOutcome) -> Path:
    """See `write_sweep_manifest`."""
    plan = read_plan(outcome.path)
    covers: dict[str, Any] = {
        "result_version": RESULT_VERSION,
        "plan_digest": plan.plan_digest,
        "settings_digest": hash_json(dict(plan.settings)),
        "hypotheses_digest": hypotheses_digest(plan.settings.get("hypotheses")),
        "cells": {each.cell.dir: each.digest if each.state == "ok" else None for each in outcome.cells},
    }
    digest = hash_json(covers)
    status: Status = "failed" if outcome.failed else "partial" if outcome.missing else "ok"
    unused = [*outcome.failed, *outcome.missing]
    error = f"{len(unused)} of {len(outcome.cells)} cells have no results; see summary.json" if unused else None
    return write_manifest(
        RunDir(outcome.path),
        run_id=digest[:16],
        status=status,
        digest=digest,
        covers=covers,
        error=error,
        extra={"kind": "sweep", "conditions": plan.conditions, "cells": outcome.counts()},
    )


def hypotheses_digest(declared: Any) -> str:
    """What identifies the list of declared hypotheses."""
    return hash_json(declared or {})
