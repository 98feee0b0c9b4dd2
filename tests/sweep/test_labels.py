"""Conditions are called by what varies."""

import pytest

from tiny_ablation.sweep.plan import labels, varying


@pytest.mark.parametrize(
    ("jobs", "expected"),
    [
        ([["dataset=facts", "seed=0"], ["dataset=ioi", "seed=0"]], ["facts", "ioi"]),
        ([["dataset=facts", "seed=0"], ["dataset=facts", "seed=1"]], [None, None]),
        ([["dataset=facts", "model=gpt2"], ["dataset=ioi", "model=toy"]], ["gpt2/facts", "toy/ioi"]),
        ([["ablation.positions=last"], ["ablation.positions=all"]], ["positions=last", "positions=all"]),
        ([["+experiment=a", "seed=1"], ["+experiment=b", "seed=1"]], ["a", "b"]),
        ([["dataset.path='/x/../y:z'"], ["dataset.path=b"]], ["path=_x___y_z", "path=b"]),
        ([["ablation.scales=[0,0.5]"], ["ablation.scales=[1]"]], ["scales=[0,0.5]", "scales=[1]"]),
        # Of a second model, whose option and keys are none of the run's own.
        ([["ablation.tuned.seed=1", "model=toy"], ["ablation.tuned.seed=2", "model=toy"]], ["tuned.seed=1", "tuned.seed=2"]),
        ([["model@ablation.tuned=a", "model=b"], ["model@ablation.tuned=c", "model=b"]], ["tuned=a", "tuned=c"]),
    ],
)
def test_labels(jobs, expected):
    assert labels(jobs) == expected


def test_a_key_that_only_some_jobs_have_varies():
    assert varying([["dataset=facts", "metrics.span=full"], ["dataset=ioi", "metrics.span=first"], ["dataset=sva"]]) == [
        "dataset",
        "metrics.span",
    ]
