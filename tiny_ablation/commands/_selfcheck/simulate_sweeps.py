"""Does what is said of several conditions, of pairs and of ratios hold its level? Simulated effects, a sweep's own code."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiny_ablation.commands._selfcheck.checks import Check
from tiny_ablation.commands._selfcheck.circuits import Workshop
from tiny_ablation.commands._selfcheck.simulate import LEVEL, MODEL, MOST, measured, pretend, share
from tiny_ablation.commands._selfcheck.truths import Truth
from tiny_ablation.config.seeds import generator

if TYPE_CHECKING:
    import numpy as np

    from tiny_ablation.run.prepare import PreparedRun
    from tiny_ablation.sweep.analysis.invariants import Comparison

METRIC, N_HEADS = "logit_diff", 270
COVERS, CONSERVED, CHANCE = (
    "Coverage of 95 % intervals",
    "Any head called conserved",
    "Overlap called beyond chance",
)
HOLDS, INTERACTS, DIFFERS = (
    "Any head said to hold under all",
    "Any pair said to interact",
    "Profiles said to differ",
)
EQUIVALENT = "p <= 0.05 that an effect is within the margin, where it is the margin"


@dataclass(frozen=True)
class Trial:
    """What is simulated many times.

    Attributes:
        name: of the check.
        text: in words.
        once: from a run that could start and a generator, what is counted: a share, or whether something was found.
        low: the least mean; None for no such bar.
        high: the largest.
        n: how many times.
    """

    name: str
    text: str
    once: "Callable[[PreparedRun, np.random.Generator], float]"
    low: float | None = None
    high: float | None = MOST
    n: int = 100


def n_trials() -> int:
    """How often something is simulated in all."""
    return sum(trial.n for trial in TRIALS)


def check_sweeps(shop: Workshop) -> list[Check]:
    """Every row about sweeps, pairs and ratios."""
    import numpy as np

    prepared = shop.prepare(MODEL, "ablation=heads_zero", "ablation.scales=[0.0]")
    rows = []
    for trial in TRIALS:
        found = []
        for i in range(trial.n):
            found.append(trial.once(prepared, generator(0, "selfcheck", trial.name, trial.text, i)))
            shop.tick(1)
        rows.append(
            share(trial.name, trial.text, float(np.mean(found)), trial.low, trial.high, f" in {trial.n}")
        )
    return rows


def _seeds(n_seeds: int, _: "PreparedRun", rng: "np.random.Generator") -> float:
    """Whether the intervals over seeds hold the mean over the population of wordings, of which 50 were drawn."""
    import numpy as np

    from tiny_ablation.stats.clusters import cluster_sums
    from tiny_ablation.sweep.analysis.pooled import pooled_intervals

    groups = np.tile(np.arange(50), n_seeds)
    values = rng.normal(size=(40, 50))[:, groups] + rng.normal(size=(40, len(groups)))
    low, high = pooled_intervals(METRIC, *cluster_sums(values, groups), 0.95)
    return float(((low <= 0) & (high >= 0)).mean())


def _compared(deltas: "Sequence[np.ndarray]") -> "Comparison":
    """Conditions whose heads have these effects (n_heads, n_groups), on the same groups of examples."""
    import numpy as np
    import pyarrow as pa

    from tiny_ablation.config.sweep import sweep_config
    from tiny_ablation.store.rundir import RunDir
    from tiny_ablation.store.sweepdir import Cell
    from tiny_ablation.sweep.analysis.children import FinishedRun
    from tiny_ablation.sweep.analysis.effects import Effects
    from tiny_ablation.sweep.analysis.examples import Examples, Grouped
    from tiny_ablation.sweep.analysis.invariants import Comparison

    class Given(Examples):
        def grouped(self, profile: Any, metric: str) -> Grouped:  # noqa: ARG002
            sums = deltas[profile.runs[0]]
            return Grouped("simulated", tuple(map(str, range(sums.shape[1]))), sums, np.ones_like(sums))

    children = tuple(
        FinishedRun(Cell(i, "", f"c{i}", 0, ()), RunDir(Path()), "head_impact", pa.table({}), {"seed_effect": "examples"})
        for i in range(len(deltas))
    )  # fmt: skip
    mean = np.array([each.mean(1) for each in deltas])[:, None, None]
    sites = tuple((i // 30, i % 30) for i in range(mean.shape[-1]))
    grid = Effects("head_impact", "simulated", sites, children, ("clean",), (METRIC,), mean, mean, mean)
    return Comparison.of(grid, Given(grid, [METRIC]), sweep_config({"k": 10}), METRIC)


def _noise(rng: "np.random.Generator", shared: float, scales: float, n: int = 2) -> "list[np.ndarray]":
    """Effects of mean 0 in n conditions: their correlation, and how much the heads' noise differs in size (log-sd)."""
    import numpy as np

    size = np.exp(scales * rng.normal(size=(N_HEADS, 1)))
    common = rng.normal(size=(N_HEADS, 12))
    own = [rng.normal(size=(N_HEADS, 12)) for _ in range(n)]
    return [size * (np.sqrt(shared) * common + np.sqrt(1 - shared) * each) for each in own]


def _conserved(shared: float, scales: float, _: "PreparedRun", rng: "np.random.Generator") -> float:
    return float(_compared(_noise(rng, shared, scales)).kept.any())


def _chance(shared: float, scales: float, _: "PreparedRun", rng: "np.random.Generator") -> float:
    from tiny_ablation.sweep.analysis.overlap_chances import chances

    return float(chances(_compared(_noise(rng, shared, scales)))[0]["beyond_chance"])


def _holds(_: "PreparedRun", rng: "np.random.Generator") -> float:
    from tiny_ablation.sweep.analysis.robustness import condition_effects, heads_table

    names = [(i // 30, i % 30) for i in range(N_HEADS)]
    groups = list(map(str, range(12)))
    found = [
        condition_effects(str(i), [each], groups, 0.95) for i, each in enumerate(_noise(rng, 0.8, 0.0, 3))
    ]
    return float(heads_table(found, names, 10)["holds"].to_numpy().any())


def _interacts(prepared: "PreparedRun", rng: "np.random.Generator") -> float:
    """Whether any of the 66 pairs of 12 heads has q <= .05, where effects add up."""
    import numpy as np

    from tiny_ablation.ablations.pairs.interaction import interaction_columns

    alone = Truth(12, (1,), means=1.0, of_example=0.0).draw(rng, 12)
    ends = np.array(np.triu_indices(12, 1))
    extra = Truth(12, (1,), shared=0.36, of_example=0.0).draw(rng, ends.shape[1])
    joint = alone.deltas[ends[0]] + alone.deltas[ends[1]] + extra.deltas
    pretended = pretend(prepared, alone.groups, int(rng.integers(2**31)), [METRIC])
    singles = measured(pretended, [METRIC], [alone])
    pairs = measured(pretended, [METRIC], [extra._replace(deltas=joint)])
    own = [
        {f"{key}_{end}": row.key[key] for end in "ab" for key in ("layer", "head")}
        for row in singles.arm.rows
    ]
    both = [
        {f"{key}_{end}": singles.arm.rows[at].key[key] for end, at in zip("ab", pair, strict=True) for key in ("layer", "head")}
        for pair in ends.T.tolist()
    ]  # fmt: skip
    tables = []
    for table, keys, told in ((singles, own, False), (pairs, both, True)):
        rows = [replace(row, key=key) for row, key in zip(table.arm.rows, keys, strict=True)]
        tables.append(replace(table, arm=replace(table.arm, rows=rows, in_table=told)))
    q = interaction_columns(pretended, tables[1], tables, METRIC)["interaction_q"]
    return float((q <= LEVEL).any())


def _differ(
    n: tuple[int, int], sd: tuple[float, float], _: "PreparedRun", rng: "np.random.Generator"
) -> float:
    import numpy as np

    from tiny_ablation.stats.profiles import unpaired_profiles

    sides = [s * rng.normal(size=(60, k)) / k for k, s in zip(n, sd, strict=True)]
    a, b = ((side, np.full(side.shape, 1 / side.shape[1])) for side in sides)
    return float(unpaired_profiles(a, b, rng, 999) <= LEVEL)


def _differ_paired(_: "PreparedRun", rng: "np.random.Generator") -> float:
    import numpy as np

    from tiny_ablation.stats.profiles import paired_profiles

    difference = (rng.exponential(size=(60, 12)) - 1) / 12
    return float(paired_profiles(difference, np.full(difference.shape, 1 / 12), rng, 999) <= LEVEL)


def _ratio(noise: float, _: "PreparedRun", rng: "np.random.Generator") -> float:
    """Whether the sets of ratios that are not ruled out hold the true one, .5; the denominator's mean is 1."""
    import numpy as np

    from tiny_ablation.stats.ratios import Shape, ratio_of_means

    spread = noise * np.sqrt(12)
    above, below = 0.5 + spread * rng.normal(size=(40, 12)), 1 + spread * rng.normal(size=(40, 12))
    found = ratio_of_means(above, below, range(12))
    inside = (found.low <= 0.5) & (found.high >= 0.5)
    gap = np.array([shape is Shape.outside for shape in found.shape])
    every = np.array([shape is Shape.everything for shape in found.shape])
    return float(np.where(gap, (found.low >= 0.5) | (found.high <= 0.5), inside | every).mean())


def _equivalent(_: "PreparedRun", rng: "np.random.Generator") -> float:
    import numpy as np

    from tiny_ablation.stats.equivalence import equivalence_pvalues

    return float((equivalence_pvalues(1 + rng.normal(size=(40, 20)), np.ones(20), 1.0) <= LEVEL).mean())


CORRELATED, LOUD = (
    "no effect in two conditions, noise correlates .8",
    "no effect in two conditions, noise of heads differs (log-sd 1)",
)
TRIALS = (
    *(
        Trial(COVERS, f"{n} seeds of 50 wordings: mean over all wordings", partial(_seeds, n), 0.93, 0.97)
        for n in (2, 5, 10)
    ),
    *(
        Trial(COVERS, f"ratio, error of the denominator {noise:g} of it, 12 groups", partial(_ratio, noise), 0.93, 1.0)
        for noise in (0.2, 1.0)
    ),
    Trial(CONSERVED, CORRELATED, partial(_conserved, 0.8, 0.0), n=50),
    Trial(CONSERVED, LOUD, partial(_conserved, 0.0, 1.0), n=50),
    Trial(CHANCE, CORRELATED, partial(_chance, 0.8, 0.0)),
    Trial(CHANCE, LOUD, partial(_chance, 0.0, 1.0)),
    Trial(HOLDS, "no effect under three replacements, noise correlates .8", _holds, n=50),
    Trial(INTERACTS, "66 pairs whose effects add up, 12 groups", _interacts),
    Trial(DIFFERS, "equal ones, 10 groups of sd 3 and 50 of sd 1", partial(_differ, (10, 50), (3.0, 1.0)), n=200),
    Trial(DIFFERS, "equal ones on the same 12 groups, exponential", _differ_paired, n=200),
    Trial(EQUIVALENT, "20 groups, normal", _equivalent),
)  # fmt: skip
