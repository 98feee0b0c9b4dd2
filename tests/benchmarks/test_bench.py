"""The benchmark compares ways that say the same, on a part of a job that stands for all; its page says what it found."""

import pytest
import torch

from benchmarks import screening
from benchmarks.floor import multiply_adds
from benchmarks.growth import fitted
from benchmarks.jobs import executor, spread
from benchmarks.page import page
from benchmarks.prompts import make_job
from benchmarks.ways import bridge_loop, engine, engine_by_length, plain_loop, rows_loop
from tiny_ablation.engine.cost import cost


@pytest.mark.parametrize("kind", ["heads", "pairs", "circuit", "patching"])
def test_all_ways_say_the_same(toy_networks, kind):
    network = toy_networks["llama"]
    job = make_job(network, kind, "ioi", 4, [0, 1])
    found = engine(network, job, job.timed)
    assert found.isfinite().all()
    assert (found - found.mean(0)).abs().max() > 1e-4  # something is changed
    torch.testing.assert_close(engine_by_length(network, job, job.timed), found, atol=1e-4, rtol=0)
    looped = [list(job.timed).index(item) for item in job.looped]
    for way in (bridge_loop, plain_loop, rows_loop):
        torch.testing.assert_close(way(network, job, job.looped), found[looped], atol=1e-4, rtol=0)


def test_what_is_timed_stands_for_all(toy_networks):
    network = toy_networks["llama"]
    for kind, items in (("heads", 2 * 4), ("pairs", 8 * 7 // 2)):
        job = make_job(network, kind, "ioi", 3, [0, 1])
        assert len(job.items) == items
        assert set(job.looped) <= set(job.timed) <= set(job.items)
    for n, count in ((30, 2), (30, 6), (12, 4)):
        assert sum(spread(n, count)) / count == (n - 1) / 2


def test_the_floor_is_what_the_plan_costs_without_the_guards(toy_networks):
    network = toy_networks["llama"]
    job = make_job(network, "heads", "ioi", 3, [0, 1])
    whole = cost(executor(network, job, job.items)).operations
    once = cost(executor(network, job, [])).operations / 2  # two clean passes, of which the guards make one
    assert multiply_adds(network, job) == pytest.approx(whole - once)


def test_the_page_has_a_line_for_each_job():
    part = {
        "n_prompts": 64,
        "items": 270,
        "seconds": {"bridge loop": 700.0, "engine": 100.0},
        "times_as_fast_as": {"bridge loop": 7.0},
        "bridge_ratio_by_round": [6.5, 7.5],
        "of_floor": 1.6,
        "of_floor_by_torch": 0.7,
    }
    result = {
        "when": "2026-11-22T02:00:00+00:00",
        "model": "m",
        "dtype": "float32",
        "rounds": 2,
        "clock": "wall",
        "git_commit": "a" * 40,
        "git_dirty": False,
        "versions": {},
        "machine": {"threads": 2, "cpu": "A CPU"},
        "peak_gflops": {"torch": 190.0},
        "jobs": {"heads:facts=64": part},
        "memory": {"heads:ioi=64": {"model": 2**30, "peak": 3 * 2**29}},
    }
    whole = {"first_tick": 7.0, "whole": 40.0, "loop": 25.0, "prepare": 3.0, "rest": 15.0, "loop_share": 0.8}
    later = result | {"whole": whole} | {"jobs": {"heads:facts=64": part | {"n_prompts": 65}, "pairs:ioi=64": part}}
    growth = {"heads": {"steps": [2, 4], "seconds": [1.0, 2.0], "power": 1.0, "expected": 1}}
    part = {"recall": 0.9, "recall_gradients": 0.7, "runs": 0.1, "heads": 16}
    screening = {"n": 24, "families": {"ioi": {"0.1": part, "0.2": part | {"recall": 1.0}}}}
    text = page([result, later], growth, screening)
    assert "| heads | 2 | 4 | **1.00** | 1 |" in text
    assert "| at 10% | gradients alone, at 10% | at 20% |" in text
    assert "does not find .95" in text
    assert "| mean | 0.90 | 0.70 | 1.00 | 0.70 |" in text
    assert "| `heads:facts=64` | 65 | 270 | 700.0 | 100.0 | **7.00** (6.50 to 7.50) | **0.70** (1.60) |" in text
    assert "`pairs`: all pairs" in text
    assert "| `heads:ioi=64` | 1.00 | 1.50 | **0.50** |" in text
    assert "| **7.0** | 40.0 | 25.0 | **15.0** | 80% |" in text
    assert "- `patching`" not in text


def test_the_power_of_a_curve_is_that_of_its_upper_half():
    assert fitted((1, 2, 4, 8, 16), [1.0, 1.0, 4.0, 16.0, 64.0]) == pytest.approx(2)


def test_screening_is_judged_by_what_all_heads_say(monkeypatch):
    monkeypatch.setattr(screening, "SHARES", (1.0,))
    (found,) = screening.screened("facts", 12, model="toy").values()
    assert 0 <= found["recall"] <= 1
    assert found["heads"] == screening.affordable(8, 8, 12) < 8
    assert (found["heads"] + 3) / 8 < found["runs"] <= 1
    assert found["recall_gradients"] == 5 / 8


def test_what_can_be_afforded_stays_within_the_runs():
    assert screening.affordable(54, 270, 32) == 34  # 3 + 34 + (270 + 136 + 2 * 68) / 32
    assert screening.affordable(3, 270, 32) == 1
