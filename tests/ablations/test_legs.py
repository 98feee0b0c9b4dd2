"""Arms that share a baseline are the work of one executor, and come back apart."""

import numpy as np
import pytest

from tiny_ablation.ablations.patching.activation_patch import ActivationPatchConfig, Direction
from tiny_ablation.ablations.sets import HeadsSetZeroConfig
from tiny_ablation.engine.executor import Executor
from tiny_ablation.metrics.registry import metric
from tiny_ablation.run.measure import executors

SETS = HeadsSetZeroConfig(kind="heads_set_zero", sets={"a": ["0.1"], "b": ["0.2", "1.3"]}, n_random=3)
BOTH = ActivationPatchConfig(kind="activation_patch", direction=Direction.both)


@pytest.mark.parametrize(("ablation", "arms", "baselines"), [(SETS, 3, 1), (BOTH, 2, 2)])
def test_every_leg_gets_what_it_gives_alone(run_toy, ablation, arms, baselines):
    run = run_toy(ablation)
    assert len(run.measured) == arms
    assert len(executors(run.prepared)) == baselines
    for measured, arm in zip(run.measured, run.prepared.arms, strict=True):
        assert measured.arm is arm
        plan, alone = [run for row in arm.rows for run in row.runs], {}
        for result in Executor(run.prepared.network, arm.prompts, plan, [metric("logit_diff")]):
            for column, example in enumerate(result.examples):
                alone[example] = (result.baseline["logit_diff"][column], *result.values["logit_diff"][:, column])
        found = np.vstack([measured.baseline["logit_diff"], measured.values["logit_diff"]])
        np.testing.assert_allclose(found, np.array([alone[e] for e in measured.examples]).T, atol=1e-5)
