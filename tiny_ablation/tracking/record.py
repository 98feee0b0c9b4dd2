"""What a tracker is told about a finished run: config, numbers and files, in a tracker's flat terms."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tiny_ablation.config.keys import leaves
from tiny_ablation.models.labels import site_label
from tiny_ablation.store.files import read_json
from tiny_ablation.store.manifest import Manifest
from tiny_ablation.store.reader import Run, load_run
from tiny_ablation.store.schema import TABLES, at_strongest
from tiny_ablation.store.sweepdir import SweepDir, SweepPlan, is_sweep, read_plan

# Larger files (per-example tables of big sweeps) stay where they are; the tag `run_dir` says where.
_LARGEST_FILE = 20_000_000
_NAME = 200  # characters of a name
# The address of a tracking server may hold a password.
_PRIVATE = ("tracking.",)


@dataclass(frozen=True)
class Record:
    """One finished run.

    Args:
        name: what people read in a list: model, data, ablation and seed; or a sweep's conditions.
        status: `ok`, `partial` or `failed`.
        started_ms: when it began, in milliseconds since 1970.
        ended_ms: when it ended, likewise; the time of every metric, so that publishing twice gives the same
            points.
        params: the resolved config, keys joined by dots.
        metrics: every number of the summary that is not in a list, keys joined by dots, and the strongest effects by site.
        curves: numbers by layer: a name, then the value at each layer that was measured.
        tags: the digest, the place and the code of the run.
        files: paths relative to the run directory.
    """

    name: str
    status: str
    started_ms: int
    ended_ms: int
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    curves: Mapping[str, Mapping[int, float]]
    tags: Mapping[str, str]
    files: tuple[str, ...]


def read_record(run_dir: Path) -> Record:
    """The record of the run in `run_dir`.

    Raises:
        ResultsError: a file is missing, damaged or altered.
    """
    run = load_run(run_dir)
    provenance = read_json(run.dir.provenance) if run.dir.provenance.is_file() else {}
    summary = read_json(place) if (place := _summary(run)) else {}
    ranked = bool(summary.get("primary") and summary.get("top"))  # a run that was measured, not a sweep
    started: list[Any] = [provenance.get("started")]
    ended: list[Any] = [provenance.get("ended")]
    plan = None
    if is_sweep(run_dir):
        plan = read_plan(run_dir)
        cells = [SweepDir(run_dir).run(cell).provenance for cell in plan.cells]
        of_cells = [read_json(place) for place in cells if place.is_file()]
        started, ended = ([each.get(name) for each in of_cells] for name in ("started", "ended"))
    return Record(
        name=_name(run, summary, plan),
        status=run.manifest.status,
        started_ms=_milliseconds(min(filter(None, started), default=None), run),
        ended_ms=_milliseconds(max(filter(None, ended), default=None), run),
        params=dict(_params(run.config)) if run.dir.config.is_file() else _sweep_params(plan),
        metrics=dict(_numbers(summary)) | (_top(run, summary) if ranked else {}),
        curves=_curves(run, summary) if ranked else {},
        tags=_tags(run_dir, run.manifest, provenance),
        files=tuple(_small_files(run.manifest)),
    )


def _name(run: Run, summary: Mapping[str, Any], plan: SweepPlan | None) -> str:
    """Such as `smollm2_135m/facts/heads_zero/s0`; of a sweep its conditions."""
    if plan is not None:
        seeds = len({cell.seed for cell in plan.cells})
        return f"sweep: {', '.join(plan.conditions)}; {seeds} {'seed' if seeds == 1 else 'seeds'}"[:_NAME]
    parts = [summary.get(name) for name in ("model", "dataset", "kind")]
    return f"{'/'.join(map(str, parts))}/s{summary['seed']}" if all(parts) else run.manifest.run_id


def _sweep_params(plan: SweepPlan | None) -> dict[str, str]:
    """What a sweep varies, and what all its cells are given."""
    if plan is None:
        return {}
    given: list[dict[str, str]] = []
    for cell in plan.cells:
        given.append({name: value for name, _, value in (part.partition("=") for part in cell.overrides)})
    names = dict.fromkeys(name for each in given for name in each if not name.startswith(_PRIVATE))
    values = {name: list(dict.fromkeys(each.get(name, "") for each in given)) for name in names}
    return {name: found[0] if len(found) == 1 else ", ".join(found) for name, found in values.items()}


def _top(run: Run, summary: Mapping[str, Any]) -> dict[str, float]:
    """The effects of the strongest sites, by their names: `effect.L23H4`; behind it the direction of patching, of several."""
    index = TABLES[run.table_name].index
    found: dict[str, float] = {}
    for row in summary["top"]:
        if row["delta"] is None:
            continue
        name = f"effect.{site_label({column: row[column] for column in index if column != 'size'})}"
        name += f".{row['direction']}" if "direction" in row else ""
        found.setdefault(_metric_name(name), float(row["delta"]))
    return found


def _curves(run: Run, summary: Mapping[str, Any]) -> dict[str, dict[int, float]]:
    """The mean and the largest change in the primary metric over the sites of each layer, at the strongest factor.

    Where values were patched in several directions, each has its own.
    """
    rows: Any = run.impact[run.impact["metric"] == summary["primary"]]
    if "layer" not in rows or rows.empty:
        return {}
    if "scale" in rows:
        rows = rows[at_strongest(rows["scale"])]
    several, found = rows["direction"].nunique() > 1, {}
    for direction, same in rows.groupby("direction", sort=False):
        by_layer, behind = same.groupby("layer")["delta"], f".{direction}" if several else ""
        for how, values in (
            ("mean", by_layer.mean()),
            ("largest", by_layer.apply(lambda deltas: deltas.loc[deltas.abs().idxmax()])),
        ):
            name = _metric_name(f"layer.{summary['primary']}.{how}{behind}")
            found[name] = {int(layer): float(value) for layer, value in values.items()}
    return found


def _summary(run: Run) -> Path | None:
    """The summary of a run or of a sweep, where there is one."""
    places = (run.dir.summary, SweepDir(run.dir.path).summary)
    return next((place for place in places if place.is_file()), None)


def _milliseconds(moment: str | None, run: Run) -> int:
    """A time of the provenance; when it has none, the time of the manifest."""
    seconds = datetime.fromisoformat(moment).timestamp() if moment else run.dir.manifest.stat().st_mtime
    return int(seconds * 1000)


def _params(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in leaves(config):
        if not key.startswith(_PRIVATE):
            yield key, value if isinstance(value, str) else json.dumps(value)


def _numbers(summary: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for key, value in leaves(summary):
        if isinstance(value, int | float) and not isinstance(value, bool):
            yield _metric_name(key), float(value)


def _metric_name(text: str) -> str:
    """Trackers take few characters in a metric's name."""
    return re.sub(r"[^\w\-. /]", "_", text, flags=re.ASCII)


def _tags(run_dir: Path, manifest: Manifest, provenance: Mapping[str, Any]) -> dict[str, str]:
    place = str(run_dir.resolve())
    commit = provenance.get("git_commit") or "none"
    return {
        "tiny_ablate.digest": manifest.digest,
        "tiny_ablate.run_id": manifest.run_id,
        "tiny_ablate.run_dir": place,
        # The place again in a form that is safe in a query, whatever characters the path has.
        "tiny_ablate.place": hashlib.sha256(place.encode("utf-8", "surrogateescape")).hexdigest()[:16],
        "tiny_ablate.git": f"{commit}-dirty" if provenance.get("git_dirty") else commit,
    }


def _small_files(manifest: Manifest) -> Iterator[str]:
    yield "manifest.json"
    yield from (name for name in manifest.machine_files if name in ("provenance.json", "report.html"))
    for name, entry in manifest.files.items():
        if entry.size <= _LARGEST_FILE:
            yield name
