"""What `Measured` says of its values: effects, common examples, parts of it, and the strongest factor."""

import numpy as np
import pytest

from tiny_ablation.ablations.shared.replacements import Scale
from tiny_ablation.engine.edits import Edit, Intervention
from tiny_ablation.run.measure import Measured, aligned
from tiny_ablation.run.plan import Arm, InterventionSpec, Row


def made(values, examples, scales=None):
    """Rows with these values of `m` on a baseline of 10, 20, ...; scale 1 runs nothing."""
    values, examples = np.asarray(values, dtype=float), np.asarray(examples)
    rows = [
        Row(
            {"layer": i, "head": 0, "scale": scale},
            None if scale == 1 else Intervention((Edit("z", i, 0, Scale(scale)),)),
            InterventionSpec("head", "z", "scale", "all", "clean"),
        )
        for i, scale in enumerate(scales or [0.0] * len(values))
    ]
    top1 = np.arange(values.size).reshape(values.shape)
    groups, baseline = [f"g{i}" for i in examples], {"m": 10.0 * (1 + examples)}
    draws = {"m": values[:, :2].copy()}
    return Measured(Arm([], rows), examples, groups, {"m": values}, baseline, top1, top1[0], draws)


def test_effects_are_values_less_the_baseline_of_the_same_example():
    found = made([[11, 22], [9, np.nan]], [0, 1])
    np.testing.assert_array_equal(found.delta("m"), [[1, 2], [-1, np.nan]])
    assert found.mean_delta("m").tolist() == [1.5, -1]


def test_arms_are_compared_at_the_examples_that_all_finished():
    first, second = aligned([made([[1, 2, 3]], [0, 1, 2]), made([[5, 6, 7]], [1, 2, 4])])
    assert first.examples.tolist() == second.examples.tolist() == [1, 2]
    assert (first.values["m"].tolist(), second.values["m"].tolist()) == ([[2, 3]], [[5, 6]])
    assert first.baseline["m"].tolist() == second.baseline["m"].tolist() == [20, 30]
    assert first.groups == second.groups == ["g1", "g2"]
    assert (first.top1.tolist(), first.top1_baseline.tolist()) == ([[1, 2]], [1, 2])


def test_means_over_the_draws_do_not_outlive_the_examples_they_are_means_over():
    found = made([[1, 2, 3]], [0, 1, 2])
    assert found.at(found.examples).draws
    assert not found.at(np.array([0, 2])).draws


def test_nothing_in_common_is_no_example():
    first, second = aligned([made([[1]], [0]), made([[1]], [1])])
    assert len(first.examples) == len(second.examples) == 0


@pytest.mark.parametrize(
    ("scales", "strongest"),
    [
        ([0.0, 0.5, 1.0], [0]),
        ([0.5, 0.5, 0.9], [0, 1]),
        ([1.0, 3.0, 0.0], [1]),
        ([2.0, 0.0, 0.0], [1, 2]),  # as far from 1: a site is in the strongest rows once
        ([1.0, 1.0, 1.0], []),
    ],
)
def test_the_strongest_rows_are_those_of_one_factor(scales, strongest):
    found = made(np.arange(6).reshape(3, 2), [0, 1], scales).strongest()
    assert [row.key["layer"] for row in found.arm.rows] == strongest
    assert found.values["m"].tolist() == [[2 * i, 2 * i + 1] for i in strongest]
    assert len(found.draws["m"]) == len(found.top1) == len(strongest)
