"""The fast executor against the plain reference: every component, positions, layout, architecture and span."""

import random
import sys
from dataclasses import replace

import psutil
import pytest
import torch

from tests.conftest import SHAPES
from tiny_ablation.ablations.shared.replacements import Scale
from tiny_ablation.engine.bare.model import Bare
from tiny_ablation.engine.edits import Edit, Intervention, Replacement
from tiny_ablation.engine.executor import Executor, _even_share, give_back
from tiny_ablation.engine.prompts import Prompt
from tiny_ablation.engine.reference import Reference
from tiny_ablation.errors import GuardError, NumericsError
from tiny_ablation.metrics.readout import Readout, Reads, token_sets
from tiny_ablation.metrics.registry import metric, metric_names
from tiny_ablation.models.fast import TreeLimits
from tiny_ablation.models.hookpoints import COMPONENTS

FIRST = [metric(name) for name in metric_names() if metric(name).span == "first"]
FULL = [metric(name) for name in metric_names() if metric(name).span == "full"]


class FromSource(Replacement):
    """Puts in what another run has there."""

    name = "patch"

    def __init__(self, sources):
        self.sources = sources

    def value(self, current, source, edit):
        return source


def plan_for(network, prompts):
    rng = random.Random(1)
    vocabulary = network.shape.d_vocab
    sources = tuple(p.ids[:1] + tuple(rng.randrange(vocabulary) for _ in p.ids[1:]) for p in prompts)
    replacements = (Scale(0.0), Scale(0.5), FromSource(sources))
    plan = [
        Intervention((Edit(c, layer, 1 if c in ("z", "q", "k", "v", "neurons") else None, r, positions),))
        for positions in ("all", "last", "subject", 1)
        for layer in range(network.shape.n_layers)
        for c in COMPONENTS
        for r in replacements
    ]
    several = (Edit("z", 0, 0, Scale(0.0)), Edit("z", 1, 1, Scale(0.0)), Edit("mlp_out", 0, None, replacements[2], "last"))
    return [*plan, Intervention(several)]


@pytest.mark.parametrize("shared", [True, False], ids=["tree", "buckets"])
@pytest.mark.parametrize("answers", ["first", "sets", "full"])
@pytest.mark.parametrize("shape", SHAPES)
def test_agrees_with_the_reference(toy_networks, make_prompts, make_sets, shape, answers, shared):
    network, full = toy_networks[shape], answers == "full"
    prompts = make_prompts(network.shape.d_vocab, answers=3 if full else 1)
    prompts = make_sets(prompts, network.shape.d_vocab) if answers == "sets" else prompts
    plan = plan_for(network, prompts)
    metrics = FULL if full else FIRST
    reference = Reference(Bare(network.hf), prompts, metrics, full)
    executor = Executor(network, prompts, plan, metrics, full=full, batch_tokens=64, shared=shared)
    assert executor.uses_prefix_tree is shared
    compared, moved = 0, 0.0
    for result in executor:
        for column, example in enumerate(result.examples):
            for row in range(example % 5, len(plan), 5):  # a fifth of the cells, every cell kind among them
                expected = reference.values(plan[row], example)
                for name, value in expected.items():
                    assert result.values[name][row, column].item() == pytest.approx(value, abs=5e-5), (plan[row], name)
                    moved = max(moved, abs(value - result.baseline[name][column].item()))
                    compared += 1
    assert compared > 1000
    assert moved > 0.5  # the interventions did something


def test_order_and_batching_do_not_matter(toy_networks, make_prompts):
    network = toy_networks["llama"]
    prompts = make_prompts(network.shape.d_vocab)
    plan = [Intervention((Edit("z", 0, h, Scale(0.0)),)) for h in range(4)]

    def by_name(order, batch_tokens, shared):
        chosen = [prompts[i] for i in order]
        out = {}
        for result in Executor(network, chosen, plan, FIRST, batch_tokens=batch_tokens, shared=shared):
            for column, example in enumerate(result.examples):
                out[chosen[example].name] = result.values["logit_diff"][:, column]
        return out

    order = list(range(len(prompts)))
    first = by_name(order, 4096, True)
    for other in (
        by_name(order[::-1], 4096, True),
        by_name(order, 4096, False),
        by_name(order, 1, False),
        by_name(order, 1, True),
    ):
        assert other.keys() == first.keys()
        for name, values in first.items():
            torch.testing.assert_close(other[name], values, atol=5e-5, rtol=0)


def test_shared_prefixes_are_computed_once_and_only_where_exact(toy_networks, make_prompts):
    network = toy_networks["llama"]
    prompts = make_prompts(network.shape.d_vocab)
    tokens = sum(len(p.ids) for p in prompts)
    everywhere = [Intervention((Edit("z", 0, 0, Scale(0.0), "all"),))]
    at_last = [Intervention((Edit("z", 0, 0, Scale(0.0), "last"),))]
    shared = Executor(network, prompts, everywhere, FIRST, shared=True).batches[0].n_nodes
    private = Executor(network, prompts, at_last, FIRST, shared=True).batches[0].n_nodes
    assert shared < private < tokens  # `longer` goes on where another prompt ends, so its node there is its own


def test_a_hook_that_does_not_fire_is_an_error(toy_networks, make_prompts, monkeypatch):
    network = toy_networks["llama"]
    prompts = make_prompts(network.shape.d_vocab)
    real = type(network).hook_point

    def elsewhere(self, component, layer):
        point = real(self, component, layer)
        return replace(point, module=torch.nn.Identity()) if component == "mlp_out" else point

    monkeypatch.setattr(type(network), "hook_point", elsewhere)
    executor = Executor(network, prompts, [Intervention((Edit("mlp_out", 1, None, Scale(0.0)),))], FIRST)
    with pytest.raises(GuardError, match=r"blocks\.1\.mlp_out did not fire"):
        executor.run(0)


def test_a_leaking_edit_is_an_error(toy_networks, make_prompts):
    network = toy_networks["llama"]
    weight = network.hf.get_submodule("model.layers.1.mlp.down_proj").weight

    class Leak(Replacement):
        name = "leak"

        def value(self, current, source, edit):
            weight.mul_(1.01)
            return current

    before = weight.detach().clone()
    prompts = make_prompts(network.shape.d_vocab)
    executor = Executor(network, prompts, [Intervention((Edit("z", 0, 0, Leak()),))], FIRST)
    try:
        with pytest.raises(GuardError, match="baseline"):
            executor.run(0)
    finally:
        weight.data.copy_(before)


def test_an_edit_cannot_reach_into_the_cache(toy_networks, make_prompts):
    """A replacement that writes into what it is given changes its own run only."""

    class InPlace(Replacement):
        name = "in place"

        def value(self, current, source, edit):
            return current.zero_()

    network = toy_networks["llama"]
    prompts = make_prompts(network.shape.d_vocab)
    plan = [Intervention((Edit("resid_pre", 0, None, r, "last"),)) for r in (InPlace(), Scale(0.5), Scale(0.0))]
    with_it = Executor(network, prompts, plan, FIRST, batch_tokens=1).run(0)
    without = Executor(network, prompts, plan[1:], FIRST, batch_tokens=1).run(0)
    torch.testing.assert_close(with_it.values["logit_diff"][1:], without.values["logit_diff"], atol=1e-6, rtol=0)


def test_nan_stops_the_run_and_names_the_site(toy_networks, make_prompts):
    class Poison(Replacement):
        name = "nan"

        def value(self, current, source, edit):
            return current * float("nan")

    network = toy_networks["llama"]
    prompts = make_prompts(network.shape.d_vocab)
    zeros = [Intervention((Edit("z", 1, head, Scale(0.0)),)) for head in (0, 1)]  # in the same pass as the poison
    plan = [*zeros, Intervention((Edit("z", 1, 2, Poison()),))]
    with pytest.raises(NumericsError, match=r"L1H2\.z"):
        Executor(network, prompts, plan, FIRST).run(0)


@pytest.mark.parametrize("where", ["target", "foil"])
def test_an_impossible_answer_stops_the_run_and_names_site_and_metric(toy_networks, make_prompts, where):
    """Minus infinity at one token leaves the softmax finite, and the logit of that answer is none."""
    from tiny_ablation.engine.results import BatchResult

    network = toy_networks["llama"]
    prompts = make_prompts(network.shape.d_vocab)
    executor = Executor(network, prompts, [], FIRST)
    base = Readout(
        torch.zeros(1, 3, 8),
        Reads(token_sets([[1]] * 3), torch.arange(3), torch.zeros(3, dtype=torch.bool), token_sets([[2]] * 3), 3),
    )
    found = BatchResult.empty((0, 1, 2), executor.metrics, 1, base)
    logits = torch.zeros(1, 3, 8)
    logits[0, 1, 1 if where == "target" else 2] = -torch.inf
    with pytest.raises(
        NumericsError, match=rf"L1H2\.z: \w+ is NaN .* minus infinity to tokens {1 if where == 'target' else 2}\)"
    ):
        found.add(executor.metrics, [0], logits, base, ["L1H2.z"])


def test_out_of_memory_halves_the_batch_with_the_same_result(toy_networks, make_prompts, monkeypatch):
    network = toy_networks["llama"]
    prompts = make_prompts(network.shape.d_vocab)
    plan = [Intervention((Edit("z", 0, h, Scale(0.0)),)) for h in range(4)]
    expected = Executor(network, prompts, plan, FIRST).run(0)
    executor = Executor(network, prompts, plan, FIRST)
    real, seen = executor._passes.edited, []

    def scarce(batch, cache, start, writers, runs, only=None):
        seen.append(runs)
        if runs > 2 and len(writers) and len(seen) > 2:  # the guard's own passes are let through
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")
        return real(batch, cache, start, writers, runs, only)

    monkeypatch.setattr(executor._passes, "edited", scarce)
    executor._capacity = 4 * executor.batches[0].n_nodes
    result = executor.run(0)
    assert 4 in seen
    assert max(seen[3:]) <= 2
    torch.testing.assert_close(result.values["logit_diff"], expected.values["logit_diff"], atol=5e-5, rtol=0)


def test_hooks_are_gone_afterwards(toy_networks, make_prompts):
    network = toy_networks["gpt2"]
    prompts = make_prompts(network.shape.d_vocab)
    Executor(network, prompts, [Intervention((Edit("z", 1, 0, Scale(0.0)),))], FIRST).run(0)
    for module in network.hf.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
        assert "forward" not in vars(module)


@pytest.mark.parametrize(
    ("n", "most", "parts"), [(9, 8, [5, 4]), (9, 9, [9]), (9, 4, [3, 3, 3]), (3, 0, [1, 1, 1]), (1, 5, [1])]
)
def test_runs_are_shared_out_evenly(n, most, parts):
    found = []
    while sum(found) < n:
        found.append(_even_share(n - sum(found), most))
    assert found == parts


def test_a_model_that_takes_no_mask_gets_plain_rows(toy_networks, make_prompts, monkeypatch):
    """Patching from prompts of one length and of several agrees with the reference."""
    network = toy_networks["llama"]
    paths = network.paths(10)
    monkeypatch.setattr(type(network), "paths", lambda *_: replace(paths, trees=TreeLimits(nodes=0)))
    prompts = [p for p in make_prompts(network.shape.d_vocab, n=12) if len(p.ids) == 4]
    assert len(prompts) > 1
    patch = FromSource(tuple(p.ids[::-1] for p in prompts))
    mixed = FromSource(tuple(p.ids[i % 2 :] for i, p in enumerate(prompts)))
    plan = [Intervention((Edit("resid_post", 0, None, source, "last"),)) for source in (patch, mixed)]
    executor = Executor(network, prompts, plan, FIRST)
    result = executor.run(0)
    assert executor.batches[0].sees is None
    reference = Reference(Bare(network.hf), prompts, FIRST)
    for row, intervention in enumerate(plan):
        for column, example in enumerate(result.examples):
            expected = reference.values(intervention, example)["logit_diff"]
            assert result.values["logit_diff"][row, column].item() == pytest.approx(expected, abs=5e-5)


def test_an_edit_that_changes_nothing_has_an_effect_of_exactly_zero(known_networks):
    """Even for a batch with a single answer: a run alone and among copies has the same logits to the bit."""
    network = known_networks["planted"]
    rng = random.Random(0)
    for n in (1, 2, 3, 5):
        prompts = [
            Prompt(tuple(rng.randrange(network.shape.d_vocab) for _ in range(12)), (1,), (2,), {}, f"p{i}") for i in range(n)
        ]
        dead = [Intervention((Edit("z", 0, head, Scale(0.0)),)) for head in (0, 1, 3)]
        for result in Executor(network, prompts, dead, FIRST):
            for name, values in result.values.items():
                assert torch.equal(values, result.baseline[name].expand_as(values)), (n, name)


PIECES, PIECE = 1000, 100_000  # small enough to be taken from the heap, which shrinks from its end only


@pytest.mark.skipif(sys.platform != "linux", reason="other systems' allocators do this by themselves")
def test_what_is_free_between_things_in_use_is_given_back():
    process = psutil.Process()
    pieces = [bytearray(b"x" * PIECE) for _ in range(PIECES)]
    kept, before = pieces[::20], process.memory_info().rss
    del pieces
    give_back()
    assert process.memory_info().rss < before - PIECES * PIECE // 2
    assert all(piece[0] == ord("x") for piece in kept)
