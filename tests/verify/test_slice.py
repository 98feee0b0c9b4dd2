"""Which part of a arm is computed again, and how both results are put side by side."""

import numpy as np
import pytest

from tiny_ablation.ablations.shared.replacements import Scale
from tiny_ablation.config.schema import RootConfig, VerifyConfig, VerifyMode
from tiny_ablation.engine.edits import Edit, Intervention
from tiny_ablation.engine.prompts import Prompt
from tiny_ablation.engine.reference import Cell
from tiny_ablation.metrics.registry import metric
from tiny_ablation.run.measure import Measured
from tiny_ablation.run.plan import Arm, InterventionSpec, Row
from tiny_ablation.verify.slice import PATIENCE, Slice, _compared, choose, label, plan, resolve_mode

SIX = InterventionSpec("head", "z", "zero", "all", "clean")


METRICS = [metric("logit_diff")]


def measured(effects, *, skipped=(), draws=1, n=3, lengths=None, name="it"):
    """A arm with one row an effect, on `n` examples; the rows in `skipped` run nothing."""
    names = ("logit_diff", "acc_flip_rate", "p_drop")
    run = lambda i: Intervention((Edit("z", i, 1, Scale(0.5)),))  # noqa: E731
    rows = [
        Row({"layer": i, "head": 1, "scale": 0.5}, None if i in skipped else run(i), SIX, draws=(run(i),) * (draws - 1))
        for i in range(len(effects))
    ]
    prompts = [Prompt((1,) * size, (3,), (4,), {}, f"p{i}") for i, size in enumerate(lengths or [2] * n)]
    n = len(prompts)
    baseline = {name: np.zeros(n) for name in names}
    values = {name: np.tile(np.array(effects, dtype=float)[:, None], n) for name in names}
    top1 = np.zeros((len(effects), n), dtype=int)
    return Measured(
        Arm(prompts, rows, baseline=name), np.arange(n), [f"g{i}" for i in range(n)], values, baseline, top1, top1[0]
    )


def test_the_strongest_the_weakest_and_random_ones():
    arm = measured([0.1, -5.0, 0.0, 3.0, 0.2, -0.3, 0.4, 0.5, 0.6, 0.7])
    rows = choose(arm, "logit_diff", 6, RootConfig())
    assert len(rows) == len(set(rows)) == 6
    assert rows == sorted(rows)
    assert {1, 3, 2, 0} <= set(rows)
    drawn = {tuple(choose(arm, "logit_diff", 6, RootConfig(seed=seed))) for seed in range(20)}
    assert len(drawn) > 5  # the seed draws the others
    assert rows == choose(arm, "logit_diff", 6, RootConfig())


def test_few_many_and_rows_that_run_nothing():
    arm = measured([0.1, -5.0, 9.0, 3.0], skipped=(2,))
    assert choose(arm, "logit_diff", 1, RootConfig()) == [1]
    assert choose(arm, "logit_diff", 2, RootConfig()) == [0, 1]
    assert choose(arm, "logit_diff", 50, RootConfig()) == [0, 1, 3]
    assert choose(arm, "logit_diff", None, RootConfig()) == [0, 1, 3]


def root(n_sites=6, n_examples=4, seed=0):
    return RootConfig(seed=seed, verify=VerifyConfig(n_sites=n_sites, n_examples=n_examples))


@pytest.mark.parametrize(("n_sites", "arms", "share"), [(6, 1, 6), (6, 2, 3), (6, 5, 3), (12, 2, 6), (1, 2, 1)])
def test_legs_share_the_sites_out(n_sites, arms, share):
    parts = plan([measured(range(9))] * arms, METRICS, root(n_sites))
    assert [len(part.rows) for part in parts] == [share] * arms


@pytest.mark.parametrize("arms", [2, 39, 200])
@pytest.mark.parametrize("draws", [1, 20])
def test_the_runs_of_the_model_are_bounded(arms, draws):
    parts = plan([measured(range(9), draws=draws, n=30)] * arms, METRICS, root())
    runs = sum(len(part.measured.arm.rows[i].runs) * len(part.examples) for part in parts for i in part.rows)
    assert 0 < runs <= max(PATIENCE * 6 * 4, len(parts) * draws)
    assert len(parts) <= 10
    assert len(plan([measured(range(9))] * arms, METRICS, root(None, None))) == arms  # everything, on request


def test_the_leg_that_was_asked_for_is_always_looked_at():
    arms = [measured(range(9), name=f"arm {i}") for i in range(39)]
    chosen = {tuple(part.measured.arm.baseline for part in plan(arms, METRICS, root(seed=seed))) for seed in range(9)}
    assert {names[0] for names in chosen} == {"arm 0"}
    assert len(chosen) > 5  # the seed draws the others


def test_short_and_long_prompts_and_the_last():
    lengths = [5] * 30
    lengths[7], lengths[11] = 2, 9
    for seed in range(9):
        [part] = plan([measured([1.0], lengths=lengths)], METRICS, root(seed=seed))
        assert {7, 11, 29} <= set(part.examples)
        assert len(part.examples) == 4
        assert list(part.examples) == sorted(part.examples)
    assert list(plan([measured([1.0], lengths=[3, 4])], METRICS, root())[0].examples) == [0, 1]


@pytest.mark.parametrize(("device", "mode"), [("cpu", VerifyMode.float64), ("cuda", VerifyMode.cpu), ("mps", VerifyMode.cpu)])
def test_auto(device, mode):
    assert resolve_mode(VerifyMode.auto, device) is mode
    assert resolve_mode(VerifyMode.cpu, device) is VerifyMode.cpu


def compared(name, again, margin):
    """One site that changed nothing in the run, and three values computed again."""
    arm = measured([0.0])
    part = Slice(arm, [0], range(3), [], {})
    row = [[Cell({name: 0.0}, 9.0)] for _ in range(3)]
    cells = [row, [[Cell({name: value}, margin)] for value in again]]
    return _compared(metric(name), part, cells, 1e-3)


def test_a_decision_may_go_either_way_only_where_two_tokens_tie():
    assert compared("acc_flip_rate", [0.0, 1.0, 0.0], 1e-3).verdict() == "ok"
    assert compared("acc_flip_rate", [0.0, 1.0, 0.0], 0.1).verdict() == "bug"
    assert compared("logit_diff", [0.0, 1.0, 0.0], 1e-3).verdict() == "bug"  # no decision: a tie is no excuse


def test_half_the_floor_for_probabilities():
    assert compared("p_drop", [0.0, 7e-4, -7e-4], 9.0).verdict() == "noise"
    assert compared("logit_diff", [0.0, 7e-4, -7e-4], 9.0).verdict() == "ok"


def test_draws_of_a_site_are_averaged_and_a_tie_counts_for_its_share():
    arm = measured([0.5])
    draws = [Cell({"acc_flip_rate": 1.0}, 9.0), Cell({"acc_flip_rate": 1.0}, 1e-4)]
    cells = [[[Cell({"acc_flip_rate": 0.0}, 9.0)]] * 3, [draws] * 3]
    found = _compared(metric("acc_flip_rate"), Slice(arm, [0], range(3), [], {}), cells, 1e-3)
    assert found.again[1].tolist() == [1.0] * 3
    assert found.slack[1].tolist() == [0.5] * 3
    assert found.verdict() == "ok"


def test_labels():
    assert label(Row({"layer": 3, "head": 1, "scale": 0.0}, None, SIX)) == "L3H1 scale 0"
    assert label(Row({"set": "names"}, None, SIX, sites="0.1, 1.2")) == "names (0.1, 1.2)"


def test_a_value_behind_a_router_near_a_tie_is_no_difference():
    arm = measured([0.0])
    near = np.array([[False] * 3, [False, True, False]])
    row = [[Cell({"logit_diff": 0.0}, 9.0)] for _ in range(3)]
    again = [[Cell({"logit_diff": value}, 9.0, 1e-5)] for value in (0.0, 1.0, 0.0)]
    found = _compared(metric("logit_diff"), Slice(arm, [0], range(3), [], {}, near), [row, again], 1e-3)
    assert found.verdict() == "ok"
    found = _compared(metric("logit_diff"), Slice(arm, [0], range(3), [], {}, ~near), [row, again], 1e-3)
    assert found.verdict() == "bug"
