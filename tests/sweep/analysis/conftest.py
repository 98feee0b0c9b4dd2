"""Made-up sweeps: child runs with planted effects, written as real runs are, without any model."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.ledgers import adopt
from tiny_ablation.store.files import write_json, write_table, write_text
from tiny_ablation.store.manifest import write_manifest
from tiny_ablation.store.rundir import RunDir
from tiny_ablation.store.schema import EFFECT, TABLES, conform, conform_examples
from tiny_ablation.store.sweepdir import Cell, SweepPlan, write_plan
from tiny_ablation.sweep.analysis.children import FinishedRun
from tiny_ablation.sweep.analysis.effects import Effects
from tiny_ablation.sweep.analysis.examples import Grouped

METRICS = ("logit_diff", "p_drop")
NOTHING_SAID = {name: np.nan for name in EFFECT if name != "delta"} | {"ci_shape": None}  # made-up runs have no statistics
OF = {"weights": "w", "versions": {"torch": "2"}}  # what the runs are made of


@dataclass(frozen=True)
class Made:
    """One made-up run: effects are (n_sites, n_examples), site by site in the order of layers and heads."""

    condition: str
    seed: int
    effects: np.ndarray
    groups: tuple[str, ...]
    heads: int = 3
    table: str = "head_impact"
    direction: str = "clean"
    model: str = "toy"
    dataset: str | None = None
    seed_effect: str = "examples"
    baseline: float = 2.0
    metrics: tuple[str, ...] = METRICS
    chosen: frozenset | None = None
    confidence: float = 0.95


def impact_rows(made: Made) -> pd.DataFrame:
    n_sites = len(made.effects)
    site = np.arange(n_sites)
    if made.table == "head_impact":
        index = {"layer": site // made.heads, "head": site % made.heads, "scale": 0.0}
    else:
        index = {"layer": site, "granularity": "attn_out"}
    return pd.DataFrame(index).assign(
        run_id=f"{made.condition}{made.seed}",
        seed=made.seed,
        condition="whatever the run called itself",
        model=made.model,
        dataset=made.dataset or made.condition,
        replacement="zero",
        positions="all",
        direction=made.direction,
        null="none",
        **NOTHING_SAID,
        component="z",
        set="single",
        n=made.effects.shape[1],
        **({"granularity": "head"} if made.table == "head_impact" else {}),
    )


def write_child(
    path: Path,
    *parts: Made,
    status: str = "ok",
    digest: str | None = None,
    error: str | None = None,
    covers: dict | None = None,
):
    """Write a run whose tables hold the parts: several where a run patches in both directions."""
    run, made = RunDir(path), parts[0]
    frames, examples = [], []
    for part in parts:
        rows, mean = impact_rows(part), part.effects.mean(1)
        for i, metric in enumerate(part.metrics):
            # The second metric is the first turned around, and smaller.
            delta = mean if i == 0 else -0.1 * mean
            base = part.baseline if i == 0 else 0.0
            frames.append(rows.assign(metric=metric, baseline=base, delta=delta, value=base + delta))
        examples.append(_per_example(part, rows))
    write_table(run.table(made.table), conform(pd.concat(frames), made.table))
    write_table(run.per_example, conform_examples(pd.concat(examples), made.table, list(made.metrics)))
    write_table(run.metrics / "groups.parquet", groups_of(made))
    write_json(
        run.summary,
        {
            "schema": 1,
            "run_id": f"{made.condition}{made.seed}",
            "model": made.model,
            "kind": "heads_zero",
            "dataset": made.dataset or made.condition,
            "primary": made.metrics[0],
            "seed": made.seed,
            "seed_effect": made.seed_effect,
            "n_examples": made.effects.shape[1],
            "baseline": {"logit_diff": {"mean": made.baseline + 0.1 * made.seed, "ci_low": 1.0, "ci_high": 3.0}},
            "metrics": {"logit_diff": {"mean_delta": float(made.effects.mean()), "ci_low": -1.0, "ci_high": 1.0}},
            "warnings": [],
            "confidence": made.confidence,
        },
    )
    write_text(run.config, "seed: 0\n")
    digest = f"{made.condition}-{made.seed}" if digest is None else digest
    adopt(run.path)
    write_manifest(run, run_id=digest[:16], status=status, digest=digest, covers=covers or OF, error=error)  # pyright: ignore


def groups_of(made: Made) -> pd.DataFrame:
    """`groups.parquet` as runs write it; the baseline varies between groups as the effects do."""
    baseline = made.baseline + 0.1 * made.seed + made.effects[0]
    values = {"effect/logit_diff": made.effects.mean(0), "baseline/logit_diff": baseline}
    rows = pd.DataFrame(values).groupby(list(made.groups))
    return rows.mean().assign(n=rows.size()).rename_axis("group").reset_index()


def _per_example(part: Made, rows: pd.DataFrame) -> pd.DataFrame:
    n = part.effects.shape[1]
    columns = [c for c in TABLES[part.table].example_columns(part.metrics) if c in rows]
    frame = rows[columns].loc[rows.index.repeat(n)].reset_index(drop=True)
    flat = part.effects.ravel()
    values = {}
    for i, metric in enumerate(part.metrics):
        base = part.baseline if i == 0 else 0.0
        values |= {metric: base + (flat if i == 0 else -0.1 * flat), f"{metric}_baseline": base}
    return frame.assign(
        example_id=np.tile([f"e{j}" for j in range(n)], len(rows)),
        group=np.tile(part.groups, len(rows)),
        template=np.tile(part.groups, len(rows)),
        prediction="x",
        prediction_baseline="x",
        **values,
    )


def plan_of(children, extra=(), **settings) -> SweepPlan:
    """The plan whose cells are these runs, and `extra` cells (condition, seed) that never ran."""
    named = [(c.condition, c.seed) for c in children] + list(extra)
    cells = tuple(
        Cell(i, f"{c}/heads_zero/{i}_seed{s}", c, s, (f"dataset={c}", f"seed={s}"), f"{c}-{s}", {"weights": "w"})
        for i, (c, s) in enumerate(named)
    )
    return SweepPlan("plan", ("dataset", "seed"), cells, settings, content={"versions": {"torch": "2"}})


def write_sweep(path: Path, children, extra=(), **settings) -> Path:
    plan = plan_of(children, extra, **settings)
    for cell, made in zip(plan.cells, children, strict=False):
        write_child(path / cell.dir, made)
    write_plan(path, plan)
    return path


def planted(condition, seed=0, *, strong=(), layers=4, heads=3, groups=12, per_group=2, noise=0.05, **more) -> Made:
    """A run in which the `strong` heads, {site: effect}, stand out from noise."""
    rng = np.random.default_rng([seed, *condition.encode()])
    labels = tuple(np.repeat([f"t{g:02d}" for g in range(groups)], per_group).tolist())
    effects = rng.normal(0, noise, (layers * heads, len(labels)))
    effects += np.repeat(rng.normal(0, noise, (layers * heads, groups)), per_group, axis=1)
    for site, effect in dict(strong).items():
        effects[site] += effect
    return Made(condition, seed, effects, labels, heads=heads, **more)


class MadeExamples:
    """`Examples` from arrays instead of files."""

    def __init__(self, mades):
        self.mades = mades

    def grouped(self, profile, metric):
        found = [self.mades[i] for i in profile.runs]
        groups = sorted(set(found[0].groups))
        member = np.array([[g == label for g in found[0].groups] for label in groups], dtype=float)
        sums = np.sum([made.effects @ member.T for made in found], axis=0)
        sizes = np.broadcast_to(len(found) * member.sum(1), sums.shape)
        return Grouped(found[0].dataset or found[0].condition, tuple(groups), sums, sizes)


def measured(mades):
    """(grids, examples) of made runs without any file; seeds of one condition must share their groups."""
    cells = plan_of(mades).cells
    children = tuple(
        FinishedRun(
            cell,
            RunDir(Path(cell.dir)),
            made.table,
            None,
            {"dataset": made.dataset or made.condition, "seed_effect": made.seed_effect, "primary": "logit_diff"},
            made.chosen,
        )
        for cell, made in zip(cells, mades, strict=True)
    )
    n, heads = len(mades[0].effects), mades[0].heads
    sites = tuple((i // heads, i % heads) for i in range(n))
    delta = np.array([[[made.effects.mean(1)]] for made in mades])
    grid = Effects("head_impact", "toy", sites, children, ("clean",), ("logit_diff",), delta, delta, delta)
    return [grid], [MadeExamples(mades)]


class Maker:
    """The functions above, for tests in this folder and beside it."""

    measured = staticmethod(measured)

    Made, planted, write_child, write_sweep, plan_of, replace = (
        Made,
        staticmethod(planted),
        staticmethod(write_child),
        staticmethod(write_sweep),
        staticmethod(plan_of),
        staticmethod(replace),
    )


@pytest.fixture(scope="session")
def make():
    return Maker
