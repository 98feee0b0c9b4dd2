"""What a tracker is told about a finished run: config, numbers and files, in a tracker's flat terms."""

import hashlib
import json
import re
from collections.abc import Mapping, Set
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
_NO_METRICS = ("schema", "seed", "confidence")  # numbers of the summary that measure nothing
# The address of a tracking server may hold a password.
_PRIVATE = ("tracking.",)


@dataclass(frozen=True)
class Record:
    """One finished run. Times are milliseconds since 1970; keys of nested mappings are joined by dots."""

    name: str  # for a list of runs: model, data, ablation and seed; or a sweep's conditions
    status: str  # `ok`, `partial` or `failed`
    started_ms: int
    ended_ms: int  # also the time of every metric, so that publishing twice gives the same points
    params: Mapping[str, str]  # the resolved config
    metrics: Mapping[str, float]  # the numbers of the summary outside lists, and the strongest effects by site
    curves: Mapping[str, Mapping[int, float]]  # by name, the value at each measured layer
    tags: Mapping[str, str]  # digest, place and code of the run
    files: tuple[str, ...]  # paths relative to the run directory


def read_record(run_dir: Path) -> Record:
    """The record of the run in `run_dir`. Raises ResultsError if a file is missing, damaged or altered."""
    run = load_run(run_dir)
    summaries = (run.dir.summary, SweepDir(run.dir.path).summary)
    summary: dict[str, Any] = next((read_json(place) for place in summaries if place.is_file()), {})
    provenance = read_json(run.dir.provenance) if run.dir.provenance.is_file() else {}
    plan, timed = None, [provenance]
    if is_sweep(run_dir):
        plan = read_plan(run_dir)
        places = [SweepDir(run_dir).run(cell).provenance for cell in plan.cells]
        timed = [read_json(place) for place in places if place.is_file()]
    params: dict[str, str] = {} if plan is None else _sweep_params(plan)
    if run.dir.config.is_file():
        config = [(key, value) for key, value in leaves(run.config) if not key.startswith(_PRIVATE)]
        params = {key: value if isinstance(value, str) else json.dumps(value) for key, value in config}
    numbers = [(k, v) for k, v in leaves(summary) if isinstance(v, int | float) and not isinstance(v, bool)]
    numbers = [(key, value) for key, value in numbers if key not in _NO_METRICS]
    metrics, curves = {_metric_name(key): float(value) for key, value in numbers}, {}
    if summary.get("primary") and summary.get("top"):  # a run that was measured, not a sweep
        metrics |= _top(run, summary)
        curves = _curves(run, summary)
    files = ["manifest.json", *(name for name in run.manifest.machine_files if name in ("provenance.json", "report.html"))]
    return Record(
        name=_name(run, summary, plan),
        status=run.manifest.status,
        started_ms=_milliseconds(min(filter(None, (each.get("started") for each in timed)), default=None), run),
        ended_ms=_milliseconds(max(filter(None, (each.get("ended") for each in timed)), default=None), run),
        params=params,
        metrics=metrics,
        curves=curves,
        tags=_tags(run_dir, run.manifest, provenance),
        files=(*files, *_alone({name for name, entry in run.manifest.files.items() if entry.size <= _LARGEST_FILE})),
    )


def _alone(names: Set[str]) -> list[str]:
    """The files that can be opened by themselves, as a tracker shows them, in order.

    The pages of single figures need the drawing library beside them, 5 MB a run: both are left out. `report.html` and the PNGs
    hold the same figures.
    """
    # The feature panel needs no library; it is the one page without an SVG.
    drawn = {f"{name.removesuffix('.svg')}.html" for name in names if name.endswith(".svg")}
    return sorted(name for name in names - drawn if not name.endswith(".js"))


def _name(run: Run, summary: Mapping[str, Any], plan: SweepPlan | None) -> str:
    """Such as `smollm2_135m/facts/heads_zero/s0`; of a sweep its conditions."""
    if plan is not None:
        seeds = len({cell.seed for cell in plan.cells})
        return f"sweep: {', '.join(plan.conditions)}; {seeds} {'seed' if seeds == 1 else 'seeds'}"[:_NAME]
    parts = [summary.get(name) for name in ("model", "dataset", "kind")]
    return f"{'/'.join(map(str, parts))}/s{summary['seed']}" if all(parts) else run.manifest.run_id


def _sweep_params(plan: SweepPlan) -> dict[str, str]:
    """What a sweep varies, and what all its cells are given."""
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


def _milliseconds(moment: str | None, run: Run) -> int:
    """A time of the provenance; when it has none, the time of the manifest."""
    seconds = datetime.fromisoformat(moment).timestamp() if moment else run.dir.manifest.stat().st_mtime
    return int(seconds * 1000)


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
