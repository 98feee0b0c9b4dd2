"""Estimated effects against finite differences, and against exact effects where they have to be equal."""

import copy
from dataclasses import replace

import pytest
import torch

from tests.conftest import SHAPES
from tests.interpolated_replacement import Towards
from tiny_ablation.ablations.shared.means import Mean
from tiny_ablation.ablations.shared.replacements import Scale, patch_from
from tiny_ablation.ablations.shared.resample import Resample
from tiny_ablation.engine.edits import Edit, Intervention, Lookup
from tiny_ablation.engine.executor import Executor
from tiny_ablation.engine.gradients import AttributionQuery, estimate, passes_needed
from tiny_ablation.errors import DataError
from tiny_ablation.metrics.registry import metric
from tiny_ablation.models.network import build_network

BY_UNIT = ("z", "q", "v", "neurons")


@pytest.fixture(scope="module")
def doubles(toy_networks):
    """The toy models in float64."""
    return {
        shape: build_network(replace(network.model, hf=copy.deepcopy(network.hf).double()))
        for shape, network in toy_networks.items()
    }


class Table(Lookup):
    """A row of random values for each position, counted from the first token."""

    def __init__(self, network):
        self._network = network

    def row(self, example, position):
        return position % 3

    def values(self, component, layer):
        shape = self._network.shape
        width = {"z": shape.d_head, "mlp_out": shape.d_model}[component]
        rng = torch.Generator().manual_seed(layer)
        return 0.3 * torch.randn(3, shape.n_units(component), width, generator=rng, dtype=torch.float64)


def exact(network, prompts, sites, replacement, positions, full):
    """(n_sites, n_examples) change of the metric."""
    m = metric("seq_logprob_diff" if full else "logit_diff")
    plan = [Intervention((Edit(c, layer, unit, replacement, positions),)) for c, layer, unit in sites]
    out = torch.full((len(sites), len(prompts)), torch.nan, dtype=torch.float64)
    for result in Executor(network, prompts, plan, [m], full=full):
        out[:, list(result.examples)] = result.values[m.name] - result.baseline[m.name]
    return out


def sites_of(network, component):
    units = min(network.shape.n_units(component), 3)
    return [(component, layer, u if component in BY_UNIT else None) for layer in (0, 1) for u in range(units)]


def chosen(estimates, sites):
    return torch.stack([estimates[layer, unit or 0] for _, layer, unit in sites])


@pytest.mark.parametrize("component", ["z", "q", "v", "mlp_out", "attn_out", "neurons"])
@pytest.mark.parametrize(
    ("patched", "positions", "full"), [(False, "all", False), (True, "last", False), (False, "subject", True)]
)
@pytest.mark.parametrize("shape", SHAPES)
def test_gradient_against_finite_differences(doubles, make_prompts, shape, component, patched, positions, full):
    network = doubles[shape]
    prompts = make_prompts(network.shape.d_vocab, answers=3 if full else 1)
    sources = [replace(p, ids=tuple(reversed(p.ids))) for p in prompts]
    patch = patch_from(sources, prompts) if patched else None
    sites = sites_of(network, component)
    question = AttributionQuery(component, patch, positions, full=full)
    found = chosen(estimate(network, prompts, question, batch_tokens=20), sites)
    # Not too small a step: norms compute in float32 whatever the model does.
    forth, back = (exact(network, prompts, sites, Towards(h, patch), positions, full) for h in (0.01, -0.01))
    expected = (forth - back) / 0.02
    assert expected.abs().max() > 1e-2
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("component", ["z", "mlp_out"])
@pytest.mark.parametrize(("positions", "full"), [("all", False), ("last", False), ("all", True)])
@pytest.mark.parametrize("put", ["mean", "resample"])
def test_other_replacements_against_finite_differences(doubles, make_prompts, component, positions, full, put):
    """Means of a table, and donors; at `last` these may have other lengths, and meet at their last tokens."""
    network = doubles["llama"]
    prompts = make_prompts(network.shape.d_vocab, answers=3 if full else 1)
    if put == "mean":
        replacement = Mean(Table(network))
    else:
        same = [[q.ids for q in prompts if len(q.ids) == len(p.ids)] for p in prompts]
        donors = [prompts[i - 1].ids if positions == "last" else same[i][-1] for i in range(len(prompts))]
        replacement = Resample(tuple(donors), tuple(len(p.ids) for p in prompts), positions)
        assert positions == "all" or {len(d) - len(p.ids) for d, p in zip(donors, prompts, strict=True)} != {0}
    sites = sites_of(network, component)
    found = chosen(estimate(network, prompts, AttributionQuery(component, replacement, positions, full=full)), sites)
    forth, back = (exact(network, prompts, sites, Towards(h, replacement), positions, full) for h in (0.01, -0.01))
    expected = (forth - back) / 0.02
    assert expected.abs().max() > 1e-2
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=2e-3)


def test_only_the_layers_that_are_asked_about(doubles, make_prompts):
    network = doubles["gpt2"]
    prompts = make_prompts(network.shape.d_vocab)
    for steps in (0, 2):
        whole, part = (estimate(network, prompts, AttributionQuery("z", steps=steps, layers=layers)) for layers in (None, [1]))
        assert torch.equal(part[1], whole[1])
        assert not part[0].any()
        assert passes_needed(network, AttributionQuery("z", steps=steps, layers=[1])) == max(1, steps)


@pytest.mark.parametrize("shape", SHAPES)
def test_gradient_of_the_log_odds_of_sets(doubles, make_prompts, make_sets, shape):
    """Against finite differences; `exact` reads the same sets, whose log odds the judge of metrics works out by hand."""
    network = doubles[shape]
    prompts = make_sets(make_prompts(network.shape.d_vocab), network.shape.d_vocab)
    sites = sites_of(network, "z")
    found = chosen(estimate(network, prompts, AttributionQuery("z")), sites)
    forth, back = (exact(network, prompts, sites, Towards(h), "all", False) for h in (0.01, -0.01))
    torch.testing.assert_close(found, (forth - back) / 0.02, rtol=2e-3, atol=2e-3)
    single = [replace(p, right=(), wrong=()) for p in prompts]
    without = chosen(estimate(network, single, AttributionQuery("z")), sites)
    assert (found - without)[:, 1:].abs().max() > 1e-2  # the sets matter
    assert torch.equal(found[:, 0], without[:, 0])


@pytest.mark.parametrize("steps", [0, 2])
def test_exact_where_the_metric_is_linear(doubles, make_prompts, steps):
    """What the last block adds to the residual stream reaches the logits without a norm once that is made linear."""
    network = doubles["llama"]
    norm = network.hf.model.norm
    prompts = make_prompts(network.shape.d_vocab)
    last = network.shape.n_layers - 1
    real, norm.forward = norm.forward, lambda x: 0.5 * x
    try:
        found = estimate(network, prompts, AttributionQuery("mlp_out", steps=steps))[last, 0]
        sites = [("mlp_out", last, None)]
        expected = exact(network, prompts, sites, Scale(0.0), "all", False)[0]
    finally:
        norm.forward = real
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)


def test_integrated_gradients_converge_to_the_exact_effect(doubles, make_prompts):
    """Along the whole way the gradients of a layer's only unit add up to its effect (completeness)."""
    network = doubles["llama"]
    prompts = make_prompts(network.shape.d_vocab)
    sites = [("mlp_out", layer, None) for layer in range(network.shape.n_layers)]
    expected = exact(network, prompts, sites, Scale(0.0), "all", False)
    off = {
        s: (chosen(estimate(network, prompts, AttributionQuery("mlp_out", steps=s)), sites) - expected).abs().max()
        for s in (0, 2, 32)
    }
    assert off[32] < off[2] < off[0]
    assert off[32] < 1e-2 * expected.abs().max()


def test_batches_do_not_matter_and_leave_no_hooks(toy_networks, make_prompts):
    network = toy_networks["gpt2"]
    prompts = make_prompts(network.shape.d_vocab)
    prompts.append(replace(prompts[0], name="twin", target=prompts[1].target))  # one prompt asked two questions
    for steps in (0, 3):
        one = estimate(network, prompts, AttributionQuery("z", steps=steps), batch_tokens=1)
        many = estimate(network, prompts, AttributionQuery("z", steps=steps), batch_tokens=10_000)
        torch.testing.assert_close(one, many, atol=5e-5, rtol=0)
        assert (one[..., 0] - one[..., -1]).abs().max() > 1e-3
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.hf.modules())


def test_unequal_lengths_are_refused(toy_networks, make_prompts):
    network = toy_networks["llama"]
    prompts = make_prompts(network.shape.d_vocab)
    sources = [replace(p, ids=(*p.ids, 1)) if i == 2 else p for i, p in enumerate(prompts)]
    with pytest.raises(DataError, match=r"p2.*replacement=zero"):
        estimate(network, prompts, AttributionQuery("z", patch_from(sources, prompts)))
