"""The cost of a plan, against what PyTorch counts itself, and by hand."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.conftest import SHAPES
from tiny_ablation.ablations.shared.replacements import Scale
from tiny_ablation.engine.cost import cost, pass_operations, peak_rate
from tiny_ablation.engine.edits import Edit, Intervention
from tiny_ablation.engine.executor import Executor
from tiny_ablation.engine.prompts import Prompt
from tiny_ablation.metrics.registry import metric
from tiny_ablation.models.onednn_linear import matrix

PROMPTS = [Prompt((1, 2, 3, 4), (5,), (6,), {}, "a"), Prompt((1, 2, 3, 7), (5,), (6,), {}, "b")]


def executor(network, prompts, layers):
    plan = [Intervention((Edit("z", layer, 0, Scale(0.0), "all"),)) for layer in layers]
    return Executor(network, prompts, plan, [metric("logit_diff")])


@pytest.mark.parametrize("shape", SHAPES)
def test_operations_are_those_that_pytorch_counts(toy_networks, shape):
    network, prompt = toy_networks[shape], PROMPTS[0]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.hf(input_ids=torch.tensor([prompt.ids]))
    counted = counter.get_flop_counts()["Global"]
    products = sum(n for op, n in counted.items() if op in (torch.ops.aten.mm, torch.ops.aten.addmm))
    [batch] = executor(network, [prompt], [0]).batches
    block, _ = pass_operations(network, batch)
    dims, tokens = network.shape, len(prompt.ids)
    pairs = tokens * (tokens + 1) // 2  # of a query and a key that it sees
    without_attention = block - 4 * pairs * dims.n_heads * dims.d_head
    assert dims.n_layers * without_attention + 2 * tokens * dims.d_model * dims.d_vocab == products


@pytest.mark.parametrize("shape", SHAPES)
def test_the_end_of_a_pass_is_at_the_answers_only(toy_networks, shape):
    network = toy_networks[shape]
    [batch] = executor(network, PROMPTS[:1], [0]).batches
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.parts[-1].mlp(torch.zeros(1, 1, network.shape.d_model))
    [mlp] = [counter.get_total_flops()]  # of one token
    unembedding = 2 * network.shape.d_model * network.shape.d_vocab
    assert pass_operations(network, batch)[1] == unembedding - 3 * mlp


def test_a_plan_by_hand(toy_networks):
    network = toy_networks["llama"]
    found = cost(executor(network, PROMPTS, [0, 1, 1]))
    [batch] = executor(network, PROMPTS, [0]).batches
    block, end = pass_operations(network, batch)
    assert (found.examples, found.interventions, found.batches) == (2, 3, 1)
    assert (found.tokens, found.nodes) == (8, 5)  # three tokens are shared
    assert found.forwards == 2 * (1 + (2 + 1 + 1) / 2)
    # Two clean passes of two blocks, one intervention on both blocks and two on the last.
    assert found.operations == block * (2 * 2 + 2 + 1 + 1) + end * (2 + 3)
    assert found.memory > 0


@pytest.mark.parametrize("shape", SHAPES)
def test_the_peak_rate_counts_the_products_that_it_times(toy_networks, shape):
    ticks = iter(range(100))
    network = toy_networks[shape]
    with FlopCounterMode(display=False) as counter:
        rate = peak_rate(network, lambda: next(ticks), rows=10, repeats=1)  # which "takes" one second
    assert rate == counter.get_total_flops()


def test_tokens_that_an_edit_cannot_reach_cost_nothing(toy_networks):
    network = toy_networks["llama"]
    plan = [Intervention((Edit("z", 1, 0, Scale(0.0), "last"),))]
    run = Executor(network, PROMPTS, plan, [metric("logit_diff")])
    [batch] = run.batches
    block, end = pass_operations(network, batch)
    answers = batch.only(torch.tensor([0, 1, 3, 4]))  # both answers, and two tokens more for the products' sake
    part, part_end = pass_operations(network, batch, torch.tensor([0, 1, 3, 4]))
    assert answers.n_nodes == 4
    dims = network.shape
    pairs = 1 + 2 + 4 + 4  # that these four see
    weights = sum(matrix(m).numel() for m in network.blocks[0].modules() if matrix(m) is not None)
    assert part == 2 * 4 * weights + 4 * pairs * dims.n_heads * dims.d_head
    assert cost(run).operations == 2 * (block * 2 + end) + part + part_end
