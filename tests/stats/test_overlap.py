from itertools import combinations, product

import numpy as np
import pytest
from scipy.stats import hypergeom

from tiny_ablation.errors import GuardError
from tiny_ablation.stats.overlap import combine, overlap_chance

OPS = ("intersection", "union", "majority", "difference")


def rng(seed=0):
    return np.random.default_rng(seed)


def sets(n, *members):
    table = np.zeros((len(members), n), dtype=bool)
    for row, own in zip(table, members, strict=True):
        row[list(own)] = True
    return table


def test_what_each_operation_keeps():
    table = sets(5, {0, 1, 2}, {0, 1, 3}, {0, 4})
    kept = {op: set(np.flatnonzero(combine(table, op))) for op in OPS}
    assert kept == {"intersection": {0}, "union": {0, 1, 2, 3, 4}, "majority": {0, 1}, "difference": {2, 3, 4}}


def test_half_is_no_majority():
    assert not combine(sets(3, {0}, {1}), "majority").any()


def test_two_sets_by_scipy():
    found = overlap_chance(sets(20, range(5), range(3, 10)), "intersection", np.zeros(20), rng())
    assert found.exact
    assert found.p_value == pytest.approx(hypergeom(20, 5, 7).sf(1))
    assert found.expected == pytest.approx(5 * 7 / 20)


def enumerated(n, sizes, op, strata):
    """Every way to draw the sets, with as many items of each stratum."""

    def choices(own):
        pools = [[i for i in range(n) if strata[i] == s] for s in sorted(set(strata))]
        parts = [combinations(pool, k) for pool, k in zip(pools, own, strict=True)]
        return [set().union(*part) for part in product(*parts)]

    return [int(combine(sets(n, *drawn), op).sum()) for drawn in product(*map(choices, sizes))]


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("strata", [(0,) * 6, (0, 0, 0, 1, 1, 1)])
def test_three_sets_by_enumeration(op, strata):
    table = sets(6, {0, 1, 3}, {0, 1, 4}, {0, 3, 5})
    sizes = [[sum(table[r, i] and strata[i] == s for i in range(6)) for s in sorted(set(strata))] for r in range(3)]
    every = np.array(enumerated(6, sizes, op, strata))
    size = combine(table, op).sum()
    expected = (every <= size if op in ("union", "difference") else every >= size).mean()
    found = overlap_chance(table, op, strata, rng())
    # Drawn ones have a standard error of at most .005.
    assert found.p_value == pytest.approx(expected, abs=1e-12 if found.exact else 0.02)
    assert found.expected == pytest.approx(every.mean(), abs=1e-12 if found.exact else 0.04)


def test_nothing_to_compare_or_left_to_chance():
    assert overlap_chance(sets(5, {0}), "intersection", np.zeros(5), rng()) is None
    assert overlap_chance(sets(3, {0, 1, 2}, set()), "union", np.zeros(3), rng()) is None
    # One item a layer, and the sets are what the layers say.
    assert overlap_chance(sets(3, {0}, {0, 1}), "union", np.arange(3), rng()) is None


def test_sets_and_strata_must_fit():
    with pytest.raises(GuardError, match="do not fit"):
        overlap_chance(sets(3, {0}, {1}), "union", np.arange(4), rng())


@pytest.mark.parametrize("op", OPS)
def test_independent_sets_are_beyond_chance_no_more_often_than_said(op):
    draws, hits = rng(1), 0
    for i in range(200):
        table = np.argsort(draws.random((3, 40)), axis=1) < 10
        hits += overlap_chance(table, op, np.zeros(40), rng(i)).p_value <= 0.05
    assert hits <= 18  # of 200; above that has probability .01 at a rate of .05
