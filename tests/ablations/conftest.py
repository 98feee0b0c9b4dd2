"""What tests of ablations share: a planning context, pairs of prompts, and whole runs on a toy model."""

import random
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from omegaconf import OmegaConf

from tiny_ablation.ablations.registry import run_spec
from tiny_ablation.config.keys import check_values
from tiny_ablation.config.schema import DatasetConfig, MetricsConfig, ModelConfig, ModelSource, RootConfig, StatsConfig
from tiny_ablation.config.settings import to_settings
from tiny_ablation.engine.bare.model import Bare
from tiny_ablation.engine.executor import Executor
from tiny_ablation.engine.prompts import Prompt
from tiny_ablation.engine.reference import Reference
from tiny_ablation.metrics.registry import metric, metric_names
from tiny_ablation.models.network import Network
from tiny_ablation.run.measure import executors, measure
from tiny_ablation.run.plan import Ablation, Arm, PlanContext, ReferenceSet
from tiny_ablation.run.prepare import prepare_run
from tiny_ablation.run.tables import example_table, run_tables
from tiny_ablation.store.rundir import RunDir


def checked(kind: Ablation, cfg: Any) -> None:
    """Check a kind's keys, each alone and then together, as a run does before it does anything else."""
    check_values(cfg, "ablation.")
    if hasattr(cfg, "sae"):
        check_values(cfg.sae, "sae.")
    kind.check(cfg)


FIRST = [metric(name) for name in metric_names() if metric(name).span == "first"]


@pytest.fixture(scope="session")
def make_pairs() -> Callable[..., tuple[list[Prompt], list[Prompt]]]:
    """Clean and corrupt prompts of equal lengths (mixed between pairs) that differ in the subject, at positions 1 and 2."""

    def make(vocabulary: int, n: int = 5, *, lengths: Sequence[int] = (5, 6, 7), seed: int = 0) -> Any:
        rng = random.Random(seed)
        token = lambda: rng.randrange(vocabulary)  # noqa: E731
        stem, clean, corrupt = token(), [], []
        for i in range(n):
            rest = tuple(token() for _ in range(lengths[i % len(lengths)] - 3))
            target, foil = (token(),), (token(),)
            for side in (clean, corrupt):
                ids = (stem, token(), token(), *rest)
                side.append(Prompt(ids, target, foil, {"subject": (1, 2)}, f"pair-{i}"))
        return clean, corrupt

    return make


@pytest.fixture(scope="session")
def against_reference() -> Callable[..., float]:
    """Every cell of a arm computed both ways; returns the largest effect, so that a test can see that there was one."""

    def check(network: Network, arm: Arm, *, stride: int = 1, shared: bool | None = None, **how: Any) -> float:
        plan = [run for row in arm.rows for run in row.runs]
        reference = Reference(Bare(network.hf), arm.prompts, FIRST, **how)
        moved, compared = 0.0, 0
        for result in Executor(network, arm.prompts, plan, FIRST, batch_tokens=64, shared=shared, **how):
            for column, example in enumerate(result.examples):
                for row in range(example % stride, len(plan), stride):
                    for name, expected in reference.values(plan[row], example).items():
                        got = result.values[name][row, column].item()
                        assert got == pytest.approx(expected, abs=5e-5, rel=0), (plan[row].label, example, name)
                        moved = max(moved, abs(got - result.baseline[name][column].item()))
                        compared += 1
        assert compared >= len(plan) // stride
        return moved

    return check


@pytest.fixture
def run_toy(tmp_path) -> Callable[..., Any]:
    """A run of one ablation config on the toy model: prepared, measured and its tables."""

    def run(ablation: Any, *, dataset: str = "facts", n_examples: int = 8, shape: str = "llama", **dataset_keys: Any) -> Any:
        root = RootConfig(
            model=ModelConfig(name="toy", source=ModelSource.toy, shape=shape),
            dataset=DatasetConfig(name=dataset, family=dataset, n_examples=n_examples, **dataset_keys),
            ablation=ablation,
            metrics=MetricsConfig(names=["logit_diff", "kl_div"]),
            stats=StatsConfig(n_boot=1000, n_perm=200),
        )
        prepared = prepare_run(run_spec(to_settings(OmegaConf.structured(root))))
        measured = measure(prepared, RunDir(tmp_path / "run"), executors(prepared), lambda _n: None)
        combined = prepared.spec.ablation.combine(prepared, measured)
        tables, examples = run_tables(prepared, combined), example_table(prepared, combined)
        return SimpleNamespace(prepared=prepared, measured=measured, tables=tables, examples=examples)

    return run


@pytest.fixture
def cli_run(tmp_path, monkeypatch) -> Callable[..., Any]:
    """A finished run of the command line on the toy model: its directory and impact table."""
    from tiny_ablation.cli import main
    from tiny_ablation.store.reader import load_run

    def run(*args: str, directory: str = "earlier") -> Any:
        monkeypatch.chdir(tmp_path)
        common = ("model=toy", "tracking=off", "verify=off", "dataset.n_examples=8", "stats.n_boot=200", "stats.n_perm=200")
        assert main([*common, f"hydra.run.dir={directory}", *args]) == 0
        return tmp_path / directory, load_run(tmp_path / directory).impact

    return run


@pytest.fixture(scope="session")
def make_context() -> Callable[..., PlanContext]:
    """A context over given clean prompts; what a test does not name is filled in."""

    def make(
        network: Network,
        clean: Sequence[Prompt],
        *,
        corrupt: Sequence[Prompt] = (),
        groups: Sequence[str] | None = None,
        templates: Sequence[str] | None = None,
        seed: int = 0,
        full: bool = False,
        reference: ReferenceSet | None = None,
    ) -> PlanContext:
        held = reference or ReferenceSet(list(clean), [""] * len(clean), ["train"] * len(clean), len(clean), corrupt)
        return PlanContext(
            network=network,
            clean=clean,
            corrupt=corrupt,
            groups=groups or [p.name for p in clean],
            templates=templates or [""] * len(clean),
            seed=seed,
            full=full,
            reference=lambda _n: held,
        )

    return make
