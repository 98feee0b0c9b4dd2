"""Does what is said of several conditions, of pairs and of ratios hold its level? Simulated effects, a sweep's own code."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tiny_ablation.commands._selfcheck.simulate import Trial, measured, pretend
from tiny_ablation.commands._selfcheck.truths import Truth
from tiny_ablation.stats.fdr import LEVEL

if TYPE_CHECKING:
    from tiny_ablation.run.prepare import PreparedRun
    from tiny_ablation.sweep.analysis.effects import Effects
    from tiny_ablation.sweep.analysis.examples import Examples
    from tiny_ablation.sweep.analysis.invariants import InvariantSet

METRIC, N_HEADS = "logit_diff", 270
COVERS, CONSERVED, CHANCE = ("Coverage of 95 % intervals", "Any head called conserved", "Overlap called beyond chance")
HOLDS, INTERACTS, DIFFERS = ("Any head said to hold under all", "Any pair said to interact", "Profiles said to differ")
IN_ALL = "An effect said to be in all conditions"
EQUIVALENT = "p <= 0.05 that an effect is within the margin, where it is the margin"


def _seeds(n_seeds: int, _: "PreparedRun", rng: np.random.Generator) -> float:
    """Whether the intervals over seeds hold the mean over the population of wordings, of which 50 were drawn."""
    from tiny_ablation.stats.clusters import cluster_sums
    from tiny_ablation.sweep.analysis.pooled import pooled_intervals

    groups = np.tile(np.arange(50), n_seeds)
    values = rng.normal(size=(40, 50))[:, groups] + rng.normal(size=(40, len(groups)))
    low, high = pooled_intervals(METRIC, *cluster_sums(values, groups), 0.95)
    return float(((low <= 0) & (high >= 0)).mean())


def _accuracy(_: "PreparedRun", rng: np.random.Generator) -> float:
    """The same for the share of right answers over two seeds, which depends on the wording."""
    from tiny_ablation.stats.clusters import cluster_sums
    from tiny_ablation.sweep.analysis.pooled import pooled_intervals

    groups = np.tile(np.arange(50), 2)
    right = rng.random((40, 100)) < rng.beta(4, 2, size=(40, 50))[:, groups]
    low, high = pooled_intervals("accuracy", *cluster_sums(right, groups), 0.95)
    return float(((low <= 2 / 3) & (high >= 2 / 3)).mean())


def _grid(deltas: Sequence[np.ndarray]) -> "tuple[Effects, Examples]":
    """Conditions whose heads have these effects (n_heads, n_groups), on the same groups of examples."""
    import pyarrow as pa

    from tiny_ablation.store.rundir import RunDir
    from tiny_ablation.store.sweepdir import Cell
    from tiny_ablation.sweep.analysis.children import FinishedRun
    from tiny_ablation.sweep.analysis.effects import Effects
    from tiny_ablation.sweep.analysis.examples import Examples, Grouped

    class Given(Examples):
        def grouped(self, profile: Any, metric: str) -> Grouped:  # noqa: ARG002
            sums = deltas[profile.runs[0]]
            return Grouped("simulated", tuple(map(str, range(sums.shape[1]))), sums, np.ones_like(sums))

    children = tuple(
        FinishedRun(Cell(i, "", f"c{i}", 0, ()), RunDir(Path()), "head_impact", pa.table({}), {"seed_effect": "examples"})
        for i in range(len(deltas))
    )
    mean = np.array([each.mean(1) for each in deltas])[:, None, None]
    sites = tuple((i // 30, i % 30) for i in range(mean.shape[-1]))
    grid = Effects("head_impact", "simulated", sites, children, ("clean",), (METRIC,), mean, mean, mean)
    return grid, Given(grid, [METRIC])


def _compared(deltas: Sequence[np.ndarray]) -> "InvariantSet":
    from tiny_ablation.config.sweep import sweep_config
    from tiny_ablation.sweep.analysis.invariants import InvariantSet

    return InvariantSet.of(*_grid(deltas), sweep_config({"k": 10}), METRIC)


def _in_all(sign: str, _: "PreparedRun", rng: np.random.Generator) -> float:
    """Whether an effect of this sign is found in both of two conditions, of which one has a skewed one of mean 0."""
    from tiny_ablation.sweep.analysis.declared import EffectInAll
    from tiny_ablation.sweep.analysis.effect_in_all import effect_in_all
    from tiny_ablation.sweep.analysis.verdict import MeasuredGrid

    clear = 5.0 if sign == "positive" else -5.0
    deltas = [clear + rng.normal(size=(1, 12)), rng.exponential(size=(1, 12)) - 1]
    claim = EffectInAll({"layer": 0, "head": 0}, sign, None)
    return float(effect_in_all(claim, [MeasuredGrid(*_grid(deltas))], METRIC).p_value <= LEVEL)


def _noise(rng: np.random.Generator, shared: float, scales: float, n: int = 2) -> list[np.ndarray]:
    """Effects of mean 0 in n conditions: their correlation, and how much the heads' noise differs in size (log-sd)."""
    size = np.exp(scales * rng.normal(size=(N_HEADS, 1)))
    common = rng.normal(size=(N_HEADS, 12))
    own = [rng.normal(size=(N_HEADS, 12)) for _ in range(n)]
    return [size * (np.sqrt(shared) * common + np.sqrt(1 - shared) * each) for each in own]


def _conserved(shared: float, scales: float, _: "PreparedRun", rng: np.random.Generator) -> float:
    return float(_compared(_noise(rng, shared, scales)).kept.any())


def _chance(shared: float, scales: float, _: "PreparedRun", rng: np.random.Generator) -> float:
    from tiny_ablation.sweep.analysis.overlap_chances import chances

    return float(chances(_compared(_noise(rng, shared, scales)))[0]["beyond_chance"])


def _holds(_: "PreparedRun", rng: np.random.Generator) -> float:
    from tiny_ablation.sweep.analysis.robustness import condition_effects, heads_table

    names = [(i // 30, i % 30) for i in range(N_HEADS)]
    groups = list(map(str, range(12)))
    found = [condition_effects(str(i), [each], groups, 0.95) for i, each in enumerate(_noise(rng, 0.8, 0.0, 3))]
    return float(heads_table(found, names, 10)["holds"].to_numpy().any())


def _interacts(prepared: "PreparedRun", rng: np.random.Generator) -> float:
    """Whether any of the 66 pairs of 12 heads has q <= .05, where effects add up."""
    from tiny_ablation.ablations.pairs.interaction import interaction_columns

    alone = Truth(12, (1,), means=1.0, of_example=0.0).draw(rng, 12)
    ends = np.array(np.triu_indices(12, 1))
    extra = Truth(12, (1,), shared=0.36, of_example=0.0).draw(rng, ends.shape[1])
    joint = alone.deltas[ends[0]] + alone.deltas[ends[1]] + extra.deltas
    pretended = pretend(prepared, alone.groups, int(rng.integers(2**31)), [METRIC])
    singles = measured(pretended, [METRIC], [alone])
    pairs = measured(pretended, [METRIC], [extra._replace(deltas=joint)])
    own = [{f"{key}_{end}": row.key[key] for end in "ab" for key in ("layer", "head")} for row in singles.arm.rows]
    both = [
        {f"{key}_{end}": singles.arm.rows[at].key[key] for end, at in zip("ab", pair, strict=True) for key in ("layer", "head")}
        for pair in ends.T.tolist()
    ]
    tables = []
    for table, keys, told in ((singles, own, False), (pairs, both, True)):
        rows = [replace(row, key=key) for row, key in zip(table.arm.rows, keys, strict=True)]
        tables.append(replace(table, arm=replace(table.arm, rows=rows, in_table=told)))
    q = interaction_columns(pretended, tables[1], tables, METRIC)["interaction_q"]
    return float((q <= LEVEL).any())


def _differ(n: tuple[int, int], sd: tuple[float, float], _: "PreparedRun", rng: np.random.Generator) -> float:

    from tiny_ablation.stats.profiles import unpaired_profiles

    sides = [s * rng.normal(size=(60, k)) / k for k, s in zip(n, sd, strict=True)]
    a, b = ((side, np.full(side.shape, 1 / side.shape[1])) for side in sides)
    return float(unpaired_profiles(a, b, rng, 999) <= LEVEL)


def _differ_paired(_: "PreparedRun", rng: np.random.Generator) -> float:

    from tiny_ablation.stats.profiles import paired_profiles

    difference = (rng.exponential(size=(60, 12)) - 1) / 12
    return float(paired_profiles(difference, np.full(difference.shape, 1 / 12), rng, 999) <= LEVEL)


def _ratio(noise: float, _: "PreparedRun", rng: np.random.Generator) -> float:
    """Whether the sets of ratios that are not ruled out hold the true one, .5; the denominator's mean is 1."""
    from tiny_ablation.stats.ratios import Shape, ratio_of_means

    spread = noise * np.sqrt(12)
    above, below = 0.5 + spread * rng.normal(size=(40, 12)), 1 + spread * rng.normal(size=(40, 12))
    found = ratio_of_means(above, below, range(12))
    inside = (found.low <= 0.5) & (found.high >= 0.5)
    gap = np.array([shape is Shape.outside for shape in found.shape])
    every = np.array([shape is Shape.everything for shape in found.shape])
    return float(np.where(gap, (found.low >= 0.5) | (found.high <= 0.5), inside | every).mean())


def _equivalent(_: "PreparedRun", rng: np.random.Generator) -> float:

    from tiny_ablation.stats.equivalence import equivalence_pvalues

    return float((equivalence_pvalues(1 + rng.normal(size=(40, 20)), np.ones(20), 1.0) <= LEVEL).mean())


NOISE = "no effect in two conditions, noise correlates {}"
CORRELATED, LOUD = NOISE.format(".8"), "no effect in two conditions, noise of heads differs (log-sd 1)"
TRIALS = (
    *(
        Trial(COVERS, f"{n} seeds of 50 wordings: mean over all wordings", partial(_seeds, n), 0.93, 0.97)
        for n in (2, 3, 5, 10)
    ),
    Trial(COVERS, "2 seeds of 50 wordings: share of right answers", _accuracy, 0.95, 1.0),
    *(
        Trial(COVERS, f"ratio, error of the denominator {noise:g} of it, 12 groups", partial(_ratio, noise), 0.93, 1.0)
        for noise in (0.2, 1.0)
    ),
    Trial(CONSERVED, CORRELATED, partial(_conserved, 0.8, 0.0), n=200),
    Trial(CONSERVED, LOUD, partial(_conserved, 0.0, 1.0), n=200),
    *(Trial(CHANCE, NOISE.format(shared), partial(_chance, float(shared), 0.0)) for shared in (".5", ".8")),
    Trial(CHANCE, LOUD, partial(_chance, 0.0, 1.0)),
    Trial(HOLDS, "no effect under three replacements, noise correlates .8", _holds, n=200),
    Trial(INTERACTS, "66 pairs whose effects add up, 12 groups", _interacts, n=250),
    Trial(DIFFERS, "equal ones, 10 groups of sd 3 and 50 of sd 1", partial(_differ, (10, 50), (3.0, 1.0)), n=200),
    Trial(DIFFERS, "equal ones, 20 groups of sd 1 in each", partial(_differ, (20, 20), (1.0, 1.0)), n=200),
    Trial(DIFFERS, "equal ones on the same 12 groups, exponential", _differ_paired, n=200),
    *(
        Trial(IN_ALL, f"{sign}, none in one of two, exponential, 12 groups", partial(_in_all, sign), n=500)
        for sign in ("positive", "negative")
    ),
    Trial(EQUIVALENT, "20 groups, normal", _equivalent),
)
