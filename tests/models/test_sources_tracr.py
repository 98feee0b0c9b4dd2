"""The compiled programs: that they are what Tracr compiled, and that the engine finds what a plain float64 loop finds."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from tests.tracr import plain
from tiny_ablation.ablations.shared.replacements import Scale
from tiny_ablation.config.schema import ModelConfig, ModelSource
from tiny_ablation.engine.bare.model import Bare
from tiny_ablation.engine.edits import Edit, Intervention
from tiny_ablation.engine.executor import Executor
from tiny_ablation.engine.prompts import Prompt
from tiny_ablation.engine.reference import Reference
from tiny_ablation.errors import ConfigError
from tiny_ablation.metrics.registry import metric
from tiny_ablation.models import loader
from tiny_ablation.models.network import Network, build_network
from tiny_ablation.models.sources import tracr

PROGRAMS = ["dyck", "histogram", "reverse", "sort"]
LOGIT_DIFF = [metric("logit_diff")]


def config(shape: str, seed: int = 0) -> ModelConfig:
    return ModelConfig(name=f"tracr_{shape}", source=ModelSource.tracr, shape=shape, seed=seed)


@pytest.fixture(scope="module")
def networks() -> dict[str, Network]:
    out = {}
    for shape in PROGRAMS:
        out[shape] = build_network(loader.load_model(config(shape), device="cpu", dtype="float32"))
        loader.forget()
    return out


def weights(shape: str) -> dict[str, np.ndarray]:
    return plain.read(tracr._content(shape), load_file(tracr._PROGRAMS / f"{shape}.safetensors"))


def ids(network: Network, prompt: str) -> tuple[int, ...]:
    return tuple(network.model.tokenizer(prompt)["input_ids"])


def prompts(network: Network, shape: str, n: int) -> list[Prompt]:
    """Inputs with the right answer, and another that the program knows."""
    outputs, out = tracr._content(shape)["outputs"], []
    for prompt, answers in list(tracr.cases(shape).items())[:n]:
        foil = next(word for word in outputs if word != answers[-1])
        target, wrong = (ids(network, word)[1:] for word in (answers[-1], foil))
        out.append(Prompt(ids(network, prompt), target, wrong, {}, prompt))
    return out


def test_all_programs_ship():
    assert tracr.names() == PROGRAMS


@pytest.mark.parametrize("shape", PROGRAMS)
def test_every_answer_at_every_word_is_the_one_of_tracrs_own_model(networks, shape):
    network, by_length = networks[shape], {}
    for prompt, answers in tracr.cases(shape).items():
        by_length.setdefault(len(answers), []).append((ids(network, prompt), answers))
    for rows in by_length.values():
        with torch.no_grad():
            top = network.hf(torch.tensor([row for row, _ in rows]), use_cache=False).logits[:, 1:].argmax(-1)
        found = [[network.model.tokenizer.decode([i]) for i in row] for row in top.tolist()]
        assert found == [list(answers) for _, answers in rows]
    assert sum(map(len, by_length.values())) == 320


def test_the_cases_are_what_the_programs_say_in_plain_python():
    closes, n = {")": "(", "]": "["}, 0
    for prompt, answers in tracr.cases("dyck").items():
        depth, good = {"(": 0, "[": 0}, True
        for word in prompt.split():
            depth[closes.get(word, word)] += -1 if word in closes else 1
            good &= min(depth.values()) >= 0
        assert set(answers) == {str(good and not any(depth.values()))}
        n += good
    assert n > 50
    for prompt, answers in tracr.cases("sort").items():
        assert list(answers) == sorted(prompt.split())
    for prompt, answers in tracr.cases("reverse").items():
        assert list(answers) == prompt.split()[::-1]
    for prompt, answers in tracr.cases("histogram").items():
        assert list(answers) == [str(prompt.split().count(word)) for word in prompt.split()]


@pytest.mark.parametrize("shape", PROGRAMS)
def test_zeroing_any_head_does_what_a_plain_loop_in_float64_says(networks, shape):
    """And so the live heads are live, and the others dead, by a computation that shares no code with the engine."""
    network, dense, truth = networks[shape], weights(shape), tracr.truth(config(shape))
    rows, content = prompts(network, shape, 24), tracr._content(shape)
    column = {network.model.tokenizer.convert_tokens_to_ids(word): i for i, word in enumerate(content["outputs"])}
    heads = [*truth.needed, *truth.dead]
    plan = [Intervention((Edit("z", *head, Scale(0.0)),)) for head in heads]
    for result in Executor(network, rows, plan, LOGIT_DIFF):
        for place, example in enumerate(result.examples):
            row = rows[example]
            target, foil = column[row.target[0]], column[row.foil[0]]
            for index, head in enumerate(heads):
                logits = plain.logits(dense, row.ids, [head] if head in truth.needed else [])[-1]
                expected = logits[target] - logits[foil]
                assert result.values["logit_diff"][index, place].item() == pytest.approx(expected, abs=1e-4)
            dead = slice(len(truth.needed), None)
            assert (result.values["logit_diff"][dead, place] == result.baseline["logit_diff"][place]).all()


@pytest.mark.parametrize("shape", PROGRAMS)
def test_the_live_heads_are_those_whose_zeroing_moves_a_logit(shape):
    dense, content, moved = weights(shape), tracr._content(shape), set()
    n_layers, n_heads = dense["query"].shape[:2]
    for prompt in list(tracr.cases(shape))[:40]:
        row = [content["words"].index(word) for word in ("<s>", *prompt.split())]
        clean = plain.logits(dense, row)[-1]
        heads = [(layer, head) for layer in range(n_layers) for head in range(n_heads)]
        moved |= {h for h in heads if np.abs(plain.logits(dense, row, [h])[-1] - clean).max() > 1e-6}
    truth = tracr.truth(config(shape))
    assert moved == set(truth.needed)
    assert not moved & set(truth.dead)


@pytest.mark.parametrize("shape", PROGRAMS)
def test_the_bridge_agrees(networks, shape):
    network, truth = networks[shape], tracr.truth(config(shape))
    rows = prompts(network, shape, 3)
    plan = [Intervention((Edit("z", *head, Scale(0.0)),)) for head in (*truth.needed, truth.dead[0])]
    reference = Reference(Bare(network.hf), rows, LOGIT_DIFF)
    for result in Executor(network, rows, plan, LOGIT_DIFF):
        for place, example in enumerate(result.examples):
            for index, intervention in enumerate(plan):
                value = reference.values(intervention, example)["logit_diff"]
                assert result.values["logit_diff"][index, place].item() == pytest.approx(value, abs=1e-5)


@pytest.mark.parametrize("shape", PROGRAMS)
def test_every_word_sees_the_whole_prompt_so_nothing_is_shared(networks, shape):
    network = networks[shape]
    assert network.paths(4).trees.nodes == 0
    assert "whole prompts" in network.paths(4).off["prefix trees"]
    assert not Executor(network, prompts(network, shape, 4), [], LOGIT_DIFF, shared=True).uses_prefix_tree
    with pytest.raises(ValueError, match="whole prompts"):
        network.hf(torch.tensor([[0, 1]]), attention_mask=torch.tensor([[0, 1]]))


def test_decoys_write_vectors_of_ordinary_size_where_nothing_reads(networks):
    network, truth = networks["dyck"], tracr.truth(config("dyck"))
    d_program = weights("dyck")["embed"].shape[1]
    row = torch.tensor([prompts(network, "dyck", 1)[0].ids])
    for layer, block in enumerate(network.blocks):
        seen: list[torch.Tensor] = []
        handle = block.attn.c_proj.register_forward_pre_hook(lambda _m, args, seen=seen: seen.append(args[0]))
        with torch.no_grad():
            network.hf(row, use_cache=False)
        handle.remove()
        width = network.shape.d_head
        for head in (h for at, h in truth.dead if at == layer):
            part = slice(head * width, (head + 1) * width)
            written = seen[0][..., part] @ block.attn.c_proj.weight[part]
            assert written.norm(dim=-1).mean() > 0.5
            assert not written[..., :d_program].any()
    assert not network.hf.lm_head.weight[:, d_program:].any()


def test_norms_are_the_identity(networks):
    hf = networks["sort"].hf
    x = 100 * torch.randn(5, networks["sort"].shape.d_model, generator=torch.Generator().manual_seed(0))
    assert torch.equal(hf.transformer.ln_f(x), x)
    assert torch.equal(hf.transformer.h[0].ln_2(x), x)


def test_seed_draws_the_decoys_and_nothing_else(networks):
    state = torch.get_rng_state()
    other, _ = tracr.build(config("reverse", seed=1))
    again, _ = tracr.build(config("reverse"))
    assert torch.equal(state, torch.get_rng_state())
    same = networks["reverse"].hf
    row = torch.tensor([prompts(networks["reverse"], "reverse", 1)[0].ids])
    with torch.no_grad():
        assert torch.equal(other(row, use_cache=False).logits, same(row, use_cache=False).logits)
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), same.parameters(), strict=True))
    assert not torch.equal(other.transformer.h[0].attn.c_attn.weight, same.transformer.h[0].attn.c_attn.weight)
    assert len({tracr.weights_id(config(shape, seed)) for shape in PROGRAMS for seed in (0, 1)}) == 8


def test_an_unknown_program_is_refused_with_the_choices():
    for act in (tracr.check, tracr.weights_id, tracr.truth, tracr.build, tracr.make_tokenizer):
        with pytest.raises(ConfigError, match=r"model\.shape=llama.*dyck, histogram, reverse, sort"):
            act(config("llama"))


def test_the_identity_needs_no_torch():
    code = (
        "import sys; from tiny_ablation.models import loader; from tiny_ablation.config.schema import *; "
        "loader.weights_id(ModelConfig(name='t', source=ModelSource.tracr, shape='sort')); "
        "print('torch' in sys.modules, 'transformers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
