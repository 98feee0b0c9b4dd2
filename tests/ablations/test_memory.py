"""What a run holds is bounded by bytes: of every kind of ablation, four times as many interventions hold no more."""

import pytest
from hydra import compose, initialize_config_dir

from tests.live_bytes import LiveBytes
from tiny_ablation import app  # noqa: F401 (it registers the schema of every config group)
from tiny_ablation.ablations.registry import run_spec
from tiny_ablation.config.settings import to_settings
from tiny_ablation.engine import parts
from tiny_ablation.engine.executor import Executor
from tiny_ablation.models import loader
from tiny_ablation.models.sources import toy
from tiny_ablation.paths import conf_dir
from tiny_ablation.pipeline import run as carry_out
from tiny_ablation.report.terminal import Screen
from tiny_ablation.run.measure import executors
from tiny_ablation.run.prepare import prepare_run

N_LAYERS = 8  # a toy with four times as many layers as usual, so that every kind has enough to intervene on
COMMON = ["model=toy", "model.seed=8", "dataset.n_examples=8", "device.batch_tokens=64"]
HEADS = [f"L{layer}H{head}" for layer in range(N_LAYERS) for head in range(4)]
PAIRS = [f"[{a}, {b}]" for a, b in zip(HEADS, HEADS[5:], strict=False)]
SETS = [f"s{i}: [{HEADS[i % 32]}, {HEADS[(i + 1 + i // 32) % 32]}]" for i in range(40)]
FEWER_LAYERS, ALL_LAYERS = ["ablation.layers=[1,5]"], []
# What is asked for first, and four times as much of it.
KINDS = {
    "heads_zero": (["ablation.scales=[0,.5,.7]"], [f"ablation.scales={[i / 16 for i in range(12)]}"]),
    "heads_mean": (FEWER_LAYERS, ALL_LAYERS),
    "heads_resample": (["ablation.draws=3"], ["ablation.draws=12"]),
    "heads_set_zero": ([f"ablation.sets={{{', '.join(SETS[:10])}}}"], [f"ablation.sets={{{', '.join(SETS)}}}"]),
    "heads_pair_zero": ([f"ablation.pairs=[{', '.join(PAIRS[:3])}]"], [f"ablation.pairs=[{', '.join(PAIRS)}]"]),
    "circuit": (["ablation.n_random=8"], ["ablation.n_random=40"]),
    "mlp_zero": (FEWER_LAYERS, ALL_LAYERS),
    "mlp_mean": (FEWER_LAYERS, ALL_LAYERS),
    "attn_zero": (FEWER_LAYERS, ALL_LAYERS),
    "activation_patch": (["ablation.positions=last", *FEWER_LAYERS], ["ablation.positions=last"]),
    "path_patch": (["ablation.heads=[0]"], []),
    "causal_trace": (["ablation.granularities=[layer_resid]", *FEWER_LAYERS], ["ablation.granularities=[layer_resid]"]),
}
MORE = {
    "heads_resample": ["ablation.positions=last", "ablation.layers=[0,7]"],
    "path_patch": ["ablation.receivers=[L7H1, L7H2]", "ablation.unequal=skip"],
    "activation_patch": ["ablation.unequal=skip"],
    "heads_set_zero": ["ablation.n_random=0"],
    "circuit": ["ablation.members=0", "ablation.rankings=[signed]", "ablation.fractions=[0,.25,.5,.75,1]"],
    "causal_trace": ["dataset.n_examples=4"],
}


@pytest.fixture(scope="module", autouse=True)
def deeper():
    """The toy of this module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(toy, "N_LAYERS", N_LAYERS)
        yield
    loader.forget()


@pytest.fixture(scope="module")
def earlier(tmp_path_factory):
    """A run over heads, from which circuits take their ranking."""
    directory = tmp_path_factory.mktemp("earlier")
    carry_out(
        spec("heads_zero", ["ablation.scales=[0]", "verify=off", "tracking=off", "dataset.n_examples=4"]),
        directory,
        Screen(quiet=True),
    )
    return directory


def spec(name, overrides):
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("config", [*COMMON, f"ablation={name}", *MORE.get(name, []), *overrides])
    return run_spec(to_settings(cfg))


def planned(name, overrides):
    """The executors of a run, after what is made once a model or plan was made."""
    work = executors(prepare_run(spec(name, overrides)))
    for executor in work:
        Executor(executor.network, executor.prompts, executor.plan[:1], executor.metrics, batch_tokens=64).run(0)
    return work


def peak(work):
    """The most bytes of tensors that were alive at once in the first batches of all executors, without their results."""
    results = 0
    with LiveBytes() as live:
        for executor in work:
            found = executor.run(0)
            results = max(results, sum(values.nbytes for values in [*found.values.values(), found.top1]))
            del found
    return live.peak - results


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_four_times_as_many_interventions_hold_as_much(name, monkeypatch, request):
    few, many = KINDS[name]
    if name == "circuit":
        few, many = ([*more, f"ablation.from_run={request.getfixturevalue('earlier')}"] for more in (few, many))
    monkeypatch.setattr(parts, "MOST_BYTES", 16_000)
    less, more = planned(name, few), planned(name, many)
    runs = [sum(len(executor.plan) for executor in work) for work in (less, more)]
    assert runs[1] >= 4 * runs[0] > 0
    assert peak(more) <= peak(less) + 8_000


def test_the_counter_counts_what_is_alive():
    import torch

    with LiveBytes() as live:
        held = [torch.zeros(1000) for _ in range(5)]
        held[0].add_(1)
        view = held[1][10:]
        assert live.now == live.peak == 20_000
        del held
        assert live.now == 4_000
        del view
        assert (live.now, live.peak) == (0, 20_000)
