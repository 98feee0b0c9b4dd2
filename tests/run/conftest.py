"""Measured values that a test makes up, in the shape that a run would give them."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tiny_ablation.ablations.registry import find_ablation
from tiny_ablation.ablations.shared.replacements import Scale
from tiny_ablation.config.schema import DatasetConfig, ModelConfig, RootConfig, Split, StatsConfig
from tiny_ablation.data.examples import Example
from tiny_ablation.engine.edits import Edit, Intervention
from tiny_ablation.run.measure import Measured
from tiny_ablation.run.plan import Arm, InterventionSpec, Row


def prepared(groups: Sequence[str], *, split: str = "dev", **stats: Any) -> Any:
    """What aggregation reads of a prepared run over heads."""
    how = {"n_boot": 200, "n_perm": 999, **stats}
    root = RootConfig(
        model=ModelConfig(name="m"), dataset=DatasetConfig(name="d", split=Split(split)), stats=StatsConfig(**how)
    )
    tokens = [SimpleNamespace(example=Example(f"{split}-{i}", "a", "b", "c", "d", g)) for i, g in enumerate(groups)]
    spec = SimpleNamespace(
        table="head_impact", condition="d", settings=SimpleNamespace(root=root), ablation=find_ablation("heads_zero")
    )
    identity = SimpleNamespace(run_id="r")
    return SimpleNamespace(
        spec=spec, tokens=tokens, identity=identity, metrics=[SimpleNamespace(name="logit_diff")], network=None
    )


def measured(
    deltas: Any, groups: Sequence[str] = (), *, scale: float = 0.0, n_heads: int = 4, component: str = "z"
) -> Measured:
    """Heads with these effects; (n_heads in all, n_examples). Without `groups` every example is its own."""
    table = np.asarray(deltas, dtype=float)
    rows = []
    for i in range(len(table)):
        layer, head = divmod(i, n_heads)
        edit = Edit(component, layer, head, Scale(scale))
        described = InterventionSpec("head", component, "zero", "all", "clean")
        rows.append(Row({"layer": layer, "head": head, "scale": scale}, Intervention((edit,)), described))
    n = table.shape[1]
    base = np.full(n, 2.0)
    top1 = np.zeros(table.shape, dtype=np.int64)
    return Measured(
        Arm([], rows),
        np.arange(n),
        groups or [str(i) for i in range(n)],
        {"logit_diff": base + table},
        {"logit_diff": base},
        top1,
        top1[0],
    )


@pytest.fixture(scope="session")
def made_up() -> SimpleNamespace:
    """The makers of this file."""
    return SimpleNamespace(prepared=prepared, measured=measured)
