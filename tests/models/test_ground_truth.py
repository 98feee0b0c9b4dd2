"""The models whose circuit is known: that they have it, and that the tool finds it and nothing else."""

import subprocess
import sys
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir

from tiny_ablation import app  # noqa: F401 (it registers the schema of every config group)
from tiny_ablation.ablations.registry import run_spec
from tiny_ablation.ablations.shared.replacements import Scale
from tiny_ablation.config.schema import ModelConfig, ModelSource
from tiny_ablation.config.settings import to_settings
from tiny_ablation.data.families import induction_tokens
from tiny_ablation.engine.bare.model import Bare
from tiny_ablation.engine.edits import Edit, Intervention
from tiny_ablation.engine.executor import Executor
from tiny_ablation.engine.prompts import Prompt
from tiny_ablation.engine.reference import Reference
from tiny_ablation.errors import ConfigError, DataError, ModelError
from tiny_ablation.metrics.registry import metric, metric_names
from tiny_ablation.models import loader
from tiny_ablation.models.network import Network
from tiny_ablation.models.sources import induction, planted, word_tokenizers
from tiny_ablation.models.sources.planted import TRUTHS
from tiny_ablation.models.sources.truth import Head
from tiny_ablation.paths import conf_dir
from tiny_ablation.run.measure import Measured, executors, measure
from tiny_ablation.run.plan import Row
from tiny_ablation.run.prepare import PreparedRun, prepare_run
from tiny_ablation.store.rundir import RunDir

Effects = dict[tuple[Head, ...], dict[str, np.ndarray]]

METRICS = [metric(name) for name in metric_names() if metric(name).span == "first"]


def config(shape: str, seed: int = 0) -> ModelConfig:
    return ModelConfig(name=shape, source=ModelSource.planted, shape=shape, seed=seed)


def prepared(*overrides: str) -> PreparedRun:
    """A run as the command line would prepare it."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("config", ["dataset=induction_tokens", *overrides])
    return prepare_run(run_spec(to_settings(cfg)))


@pytest.fixture
def effects(known_networks, tmp_path) -> Callable[..., list[Effects]]:
    """`effects(...)[arm][sites][metric]`: what a run of these overrides does to each example, by the heads it cuts."""

    def run(*overrides: str) -> list[Effects]:
        job = prepared("metrics.names=[logit_diff,p_drop,kl_div]", *overrides)
        arms = measure(job, RunDir(tmp_path), executors(job), lambda _n: None)
        return [{_sites(r): _effect(arm, i) for i, r in enumerate(arm.arm.rows)} for arm in arms]

    return run


def _sites(row: Row) -> tuple[Head, ...]:
    assert row.intervention is not None
    return tuple((edit.layer, int(str(edit.unit))) for edit in row.intervention.edits)


def _effect(arm: Measured, row: int) -> dict[str, np.ndarray]:
    return {name: values[row] - arm.baseline[name] for name, values in arm.values.items()}


def answers_right(network: Network, *zeroed: Head) -> float:
    """The share of shipped prompts whose top token is the target, with these heads at zero together."""
    examples = induction_tokens.FAMILY.build(0, "flipped")[::3]
    tokenizer = network.model.tokenizer
    ids = lambda text: tuple(tokenizer(text)["input_ids"])  # noqa: E731
    prompts = [Prompt(ids(e.clean), ids(e.target)[1:], ids(e.foil)[1:], {}, e.id) for e in examples]
    edits = tuple(Edit("z", layer, head, Scale(0.0)) for layer, head in zeroed or [(0, 0)])
    right: list[bool] = []
    for result in Executor(network, prompts, [Intervention(edits)], METRICS):
        top = result.top1[0] if zeroed else result.top1_baseline
        right += [prompts[e].target == (t,) for e, t in zip(result.examples, top.tolist(), strict=True)]
    assert len(right) == len(prompts) >= 100
    return float(np.mean(right))


def auroc(score: dict[tuple[Head, ...], float], positives: Sequence[tuple[Head, ...]]) -> float:
    """The chance that a head of the circuit scores higher than one outside it; ties count half."""
    inside = [score[sites] for sites in positives]
    outside = [value for sites, value in score.items() if sites not in positives]
    return float(np.mean([(a > b) + 0.5 * (a == b) for a in inside for b in outside]))


@pytest.mark.parametrize("name", TRUTHS)
def test_the_models_do_the_task_and_need_the_heads_that_they_are_said_to_need(known_networks, name):
    network, truth = known_networks[name], TRUTHS[name]
    untouched = answers_right(network)
    assert untouched >= 0.98
    assert all(answers_right(network, head) <= 0.3 for head in truth.needed)
    assert all(answers_right(network, head) == untouched for head in truth.dead)


@pytest.mark.parametrize(
    "kind",
    [
        ("ablation=heads_zero", "ablation.scales=[0.0]"),
        ("ablation=heads_mean",),
        ("ablation=heads_resample", "ablation.unmatched=skip"),
    ],
    ids=["zero", "mean", "resample"],
)
def test_ablating_single_heads_finds_the_planted_circuit_and_nothing_else(effects, kind):
    (found,) = effects("model=planted", "dataset.n_examples=60", *kind)
    truth = TRUTHS["planted"]
    needed, dead = [(head,) for head in truth.needed], [(head,) for head in truth.dead]
    assert set(found) == {*needed, *dead}
    for name in ("logit_diff", "p_drop", "kl_div"):
        strength = {sites: abs(float(moved[name].mean())) for sites, moved in found.items()}
        assert auroc(strength, needed) == 1
    assert max(found[sites]["logit_diff"].mean() for sites in needed) < -5
    for sites in dead:
        for name, moved in found[sites].items():
            assert not moved.any(), (sites, name)  # exactly 0, for every example


@pytest.mark.parametrize("component", ["q", "k", "v"])
def test_decoys_are_dead_wherever_they_are_cut(known_networks, make_prompts, component):
    network = known_networks["planted"]
    truth = TRUTHS["planted"]
    plan = [Intervention((Edit(component, *head, Scale(0.0)),)) for head in (*truth.dead, *truth.needed)]
    result = Executor(network, make_prompts(network.shape.d_vocab), plan, METRICS).run(0)
    moved = (result.values["logit_diff"] - result.baseline["logit_diff"]).abs().amax(dim=1)
    n_dead = len(truth.dead)
    assert moved[:n_dead].max() == 0
    assert moved[n_dead:].min() > 0.01


def test_decoys_write_vectors_as_large_as_other_heads(known_networks):
    network = known_networks["planted"]
    ids = induction.draw_lists(induction.stream(1, "test"), 8).ids
    for layer in (0, 1):
        seen: list[torch.Tensor] = []
        output = network.blocks[layer].self_attn.o_proj
        handle = output.register_forward_pre_hook(lambda _m, args, seen=seen: seen.append(args[0]))
        with torch.no_grad():
            network.hf(ids, use_cache=False)
        handle.remove()
        z, weight = seen[0].unflatten(-1, (4, 32)), output.weight.unflatten(-1, (4, 32))
        written = torch.einsum("bshd,ohd->bsho", z, weight).norm(dim=-1).mean(dim=(0, 1))
        assert written.min() > 1


def test_the_planted_model_computes_the_logits_of_the_small_one_to_the_bit(known_networks):
    lists = induction.draw_lists(induction.stream(2, "test"), 64)
    with torch.no_grad():
        small = known_networks["induction"].hf(lists.ids, use_cache=False).logits
        large = known_networks["planted"].hf(lists.ids, use_cache=False).logits
    assert torch.equal(small, large)


def test_single_heads_miss_the_redundant_pair_that_pairs_find(known_networks, effects):
    network, ((first, second),) = known_networks["induction_pair"], TRUTHS["induction_pair"].pairs
    assert min(answers_right(network, first), answers_right(network, second)) >= 0.9
    assert answers_right(network, first, second) <= 0.2
    pairs, singles = effects("model=induction_pair", "ablation=heads_pair_zero", "ablation.of=[0.0,0.1,1.0,1.1]")
    drop = {sites: float(moved["p_drop"].mean()) for sites, moved in (*pairs.items(), *singles.items())}
    extra = {(a, b): drop[a, b] - drop[a,] - drop[b,] for a, b in pairs}
    assert max(extra, key=lambda pair: extra[pair]) == (first, second)
    assert extra[first, second] > 0.5
    assert drop[first, second] > 0.9 > 4 * max(drop[first,], drop[second,])


def test_in_logits_the_redundant_heads_add_up(effects):
    """They write straight to the logits, so only what is not linear in these sees that either is enough."""
    pairs, singles = effects("model=induction_pair", "ablation=heads_pair_zero", "ablation.pairs=[[1.0,1.1]]")
    alone = sum(moved["logit_diff"] for moved in singles.values())
    np.testing.assert_allclose(pairs[(1, 0), (1, 1)]["logit_diff"], alone, atol=5e-5)


@pytest.mark.parametrize("name", TRUTHS)
def test_the_engine_agrees_with_the_reference_on_them(known_networks, make_prompts, name):
    network = known_networks[name]
    prompts = make_prompts(network.shape.d_vocab, n=4)
    heads = [(layer, head) for layer in range(2) for head in range(network.shape.n_heads)]
    plan = [Intervention((Edit(c, *head, Scale(0.0)),)) for head in heads for c in ("z", "k")]
    plan += [Intervention(tuple(Edit("z", *head, Scale(0.0)) for head in heads))]
    reference = Reference(Bare(network.hf), prompts, METRICS)
    for result in Executor(network, prompts, plan, METRICS):
        for column, example in enumerate(result.examples):
            for row, intervention in enumerate(plan):
                for key, value in reference.values(intervention, example).items():
                    assert result.values[key][row, column].item() == pytest.approx(value, abs=5e-5)


def test_training_is_deterministic_whatever_the_threads_and_leaves_global_randomness_alone(monkeypatch):
    monkeypatch.setattr(induction, "STEPS", 40)
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    first = induction.train(1, 0)
    try:
        torch.set_num_threads(2)
        second = induction.train(1, 0)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(state, torch.get_rng_state())
    for (name, a), b in zip(first.named_parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b), name


def test_norms_are_the_identity_and_mlps_write_nothing(known_networks):
    hf = known_networks["planted"].hf
    x = 100 * torch.randn(5, 96, generator=torch.Generator().manual_seed(0))
    assert torch.equal(hf.model.norm(x), x)
    assert not hf.model.layers[0].mlp(x).any()


def test_the_cache_is_used_and_the_identity_is_of_the_weights(known_networks, monkeypatch):
    def train(*_: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(induction, "train", train)
    ids = {name: loader.weights_id(config(name)) for name in TRUTHS}
    assert ids == {name: known_networks[name].model.weights_hash for name in TRUTHS}
    assert len(set(ids.values())) == 3
    for name in TRUTHS:
        files = loader.prepare(config(name))
        assert files is not None
        assert files.weights_id == ids[name]
    assert loader.weights_id(config("induction", seed=123)) is None  # it is not made yet


def test_a_model_without_its_circuit_is_not_served(monkeypatch, tmp_path):
    monkeypatch.setenv("TINY_ABLATE_CACHE", str(tmp_path))
    monkeypatch.setattr(induction, "STEPS", 1)
    with pytest.raises(ModelError, match=r"model\.seed=0 it did not learn its circuit: its accuracy is 0\."):
        planted.prepare(config("induction"))
    assert loader.weights_id(config("induction")) is None


def test_an_unknown_shape_is_refused_with_the_choices():
    for act in (planted.weights_id, planted.prepare, planted.truth):
        with pytest.raises(ConfigError, match=r"model\.shape=llama.*induction, induction_pair, planted"):
            act(config("llama"))


def test_prompts_in_other_words_are_refused(known_networks):
    with pytest.raises(DataError, match="same tokens"):
        prepared("model=planted", "ablation=heads_zero", "dataset=facts", "dataset.n_examples=4")


def test_the_dataset_speaks_the_models_letters(known_networks):
    assert induction_tokens.LETTERS == word_tokenizers.LETTERS
    model = known_networks["induction"].model
    assert model.opening == (word_tokenizers.BOS,)
    assert model.tokenizer("a b x")["input_ids"] == [word_tokenizers.BOS, 1, 2, 24]
    assert model.tokenizer.decode([1, 2]) == "a b"


def test_the_identity_needs_no_torch(known_networks):
    code = (
        "import sys; from tiny_ablation.models import loader; from tiny_ablation.config.schema import *; "
        "cfg = ModelConfig(name='p', source=ModelSource.planted, shape='planted'); "
        "print(loader.weights_id(cfg) is not None, "
        "'torch' in sys.modules, 'transformers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False", "False"]
