"""direction against the reference in both layouts, by hand, on a planted direction, and its refusals."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.ablations.conftest import checked
from tiny_ablation.ablations.direction import DirectionConfig
from tiny_ablation.ablations.direction.text import divergence, passages
from tiny_ablation.ablations.direction.vectors import Along, Given, Operation, Random
from tiny_ablation.ablations.registry import find_ablation
from tiny_ablation.engine.bare.model import Bare
from tiny_ablation.engine.edits import Edit, Intervention
from tiny_ablation.engine.executor import Executor
from tiny_ablation.engine.prompts import Prompt
from tiny_ablation.engine.reference import Reference
from tiny_ablation.errors import ConfigError, DataError
from tiny_ablation.metrics.registry import metric
from tiny_ablation.models.loader import LoadedModel
from tiny_ablation.models.network import build_network
from tiny_ablation.models.sources.toy import toy_llama

ABLATION = find_ablation("direction")
DIFF = [metric("logit_diff")]


def config(**keys):
    cfg = DirectionConfig(kind="direction", **keys)
    checked(ABLATION, cfg)
    return cfg


@pytest.mark.parametrize("shared", [True, False], ids=["tree", "buckets"])
@pytest.mark.parametrize(
    "keys",
    [
        {"n_random": 1},
        {"operation": Operation.add, "factor": -1.0, "positions": "last"},
        {"operation": Operation.scale, "factor": 3.0, "everywhere": True, "positions": "subject", "read_at": "all"},
    ],
    ids=["project_out", "add", "scale"],
)
def test_agrees_with_the_reference(toy_networks, make_pairs, make_context, against_reference, keys, shared):
    network = toy_networks["llama"]
    clean, corrupt = make_pairs(network.shape.d_vocab)
    context = make_context(network, clean, corrupt=corrupt)
    for arm in ABLATION.plan(config(**{"n_random": 0} | keys), context):
        assert against_reference(network, arm, shared=shared) > 0.01


@torch.no_grad()
def test_the_direction_is_the_difference_of_means(toy_networks, make_pairs, make_context):
    """Against the hidden states of the bare model, one prompt at a time."""
    network = toy_networks["llama"]
    clean, corrupt = make_pairs(network.shape.d_vocab)
    for read_at, part in (("last", slice(-1, None)), ("all", slice(None))):
        arm, *_ = ABLATION.plan(config(layers=[0], read_at=read_at), make_context(network, clean, corrupt=corrupt))
        states = lambda p, part=part: network.hf.model(  # noqa: E731
            torch.tensor([p.ids]), output_hidden_states=True
        ).hidden_states[1][0, part]
        side = [torch.cat([states(p) for p in prompts]).mean(0) for prompts in (clean, corrupt)]
        found = arm.rows[0].intervention.edits[0].replacement.lookup.vector()
        torch.testing.assert_close(found, side[0] - side[1], atol=1e-5, rtol=0)


def test_what_is_done_along_a_direction():
    x, given = torch.tensor([[[3.0, 4.0]]]), Given(torch.tensor([2.0, 0.0]))
    edit = Edit("resid_post", 0, None, Along(Operation.add, 1.0, given))
    made = lambda *how: Along(*how, given).value(x, given.values("resid_post", 0), edit).flatten().tolist()  # noqa: E731
    assert made(Operation.project_out, 1.0) == [0.0, 4.0]
    assert made(Operation.scale, 3.0) == [9.0, 4.0]
    assert made(Operation.add, -1.0) == [1.0, 4.0]
    nothing = Given(torch.zeros(2))
    assert torch.equal(Along(Operation.scale, 0.0, nothing).value(x, nothing.values("", 0), edit), x)


def test_random_directions_have_its_length_and_are_drawn_by_the_seed():
    given = Given(torch.arange(32.0))
    first, again, other = (Random(given, seed, (1, 2)).vector() for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.norm().item() == pytest.approx(given.vector().norm().item(), rel=1e-5)


def planted(strength=6.0):
    """A model whose answer is what the last token has along one direction of the stream: nothing else is read or written.

    Blocks add nothing; token 2t has the direction, token 2t + 1 its opposite, and the logits of tokens 0 and 1 are read off it.
    """
    hf, tokenizer = toy_llama()
    weights, d = hf.model.embed_tokens.weight, hf.config.hidden_size
    known = torch.nn.functional.normalize(torch.randn(d, generator=torch.Generator().manual_seed(3)), dim=0)
    with torch.no_grad():
        for block in hf.model.layers:
            block.self_attn.o_proj.weight.zero_()
            block.mlp.down_proj.weight.zero_()
        noise = torch.randn(weights.shape, generator=torch.Generator().manual_seed(4))
        sign = 1 - 2 * (torch.arange(len(weights)) % 2)[:, None]
        across = noise - (noise @ known)[:, None] * known
        hf.model.embed_tokens.weight = torch.nn.Parameter(across + strength * sign * known)
        unembed = torch.zeros(len(weights), d)
        unembed[0], unembed[1] = known, -known
        hf.lm_head.weight = torch.nn.Parameter(unembed)
        hf.model.norm.weight.fill_(1.0)
    return build_network(LoadedModel("planted_direction", hf, tokenizer, False, "planted_direction", {})), known


def means(network, arm, what="values"):
    """The mean logit difference: of each row, or of the baseline."""
    runs = Executor(network, arm.prompts, [row.intervention for row in arm.rows], DIFF)
    return torch.cat([getattr(result, what)["logit_diff"] for result in runs], -1).mean(-1).numpy()


def test_a_planted_direction_is_found_and_random_ones_are_at_chance(make_context):
    network, known = planted()
    clean, corrupt = ([Prompt((5 + t % 4, 9, 2 * t + odd), (0,), (1,), {}, f"p{t}") for t in range(10, 40)] for odd in (0, 1))
    context = make_context(network, clean, corrupt=corrupt)
    arms = ABLATION.plan(config(), context)
    found = arms[0].rows[-1].intervention.edits[0].replacement.lookup.vector()
    assert torch.nn.functional.cosine_similarity(found, known, dim=0) > 0.99
    base = means(network, arms[0], "baseline")
    direction, *random = [means(network, arm) - base for arm in arms]
    random = np.abs(np.concatenate(random))
    assert base > 1
    np.testing.assert_allclose(direction, -base, rtol=0.05)  # nothing is left
    assert random.max() < 0.35 * base
    assert random.mean() < 0.1 * base
    [added] = ABLATION.plan(config(operation=Operation.add, factor=-1.0, n_random=0), context)
    assert (means(network, added) < -1).all()  # the opposite answer


def test_a_file_of_directions(tmp_path, toy_networks, make_pairs, make_context):
    network = toy_networks["llama"]
    clean, _ = make_pairs(network.shape.d_vocab)
    n, d, context = network.shape.n_layers, network.shape.d_model, make_context(network, clean)
    each = torch.arange(float(n * d)).view(n, d)
    path = str(tmp_path / "d.safetensors")
    save_file({"one": each[1].clone(), "direction": each, "wrong": each[:, 1:].contiguous(), "zero": torch.zeros(d)}, path)

    def vectors(**keys):
        [arm, *_] = ABLATION.plan(config(file=path, **keys), context)
        return [row.intervention.edits[0].replacement.lookup.vector() for row in arm.rows]

    assert torch.equal(torch.stack(vectors()), each)
    assert all(torch.equal(v, each[1]) for v in vectors(tensor="one"))
    for tensor, said in (("wrong", "one direction for all layers"), ("zero", "zero or not finite"), ("x", "has no tensor x")):
        with pytest.raises(ConfigError, match=said):
            vectors(tensor=tensor)
    (tmp_path / "text").write_text("no tensors")
    with pytest.raises(ConfigError, match="cannot be read as safetensors"):
        ABLATION.plan(config(file=str(tmp_path / "text")), context)
    before = ABLATION.input_digest(config(file=path))
    save_file({"direction": each + 1}, path)
    assert before != ABLATION.input_digest(config(file=path))
    assert not ABLATION.input_digest(config(n_text=0))
    assert "python" in ABLATION.input_digest(config())


def test_what_directions_do_to_unrelated_text(toy_networks):
    """Against the bare model, one passage at a time."""
    network = toy_networks["llama"]
    given = Given(torch.ones(network.shape.d_model))
    run = Intervention((Edit("resid_post", 0, None, Along(Operation.add, 1.0, given), "subject"),))
    everywhere = Intervention((Edit("resid_post", 0, None, Along(Operation.add, 1.0, given)),))
    prompts = list(passages(network, 3))
    assert [len(prompt.ids) for prompt in prompts] == [24] * 3
    bare = Reference(Bare(network.hf), prompts, [metric("kl_div")])
    expected = sum(bare.values(everywhere, e)["kl_div"] for e in range(3)) / 3
    assert divergence(network, [run, everywhere], 3, 512) == pytest.approx([expected] * 2, abs=5e-5)
    assert expected > 1e-3


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"factor": 2.0}, "project_out takes the whole part out"),
        ({"operation": Operation.add, "everywhere": True}, "everywhere"),
        ({"file": "nowhere.safetensors"}, "there is no such file"),
    ],
)
def test_keys_that_cannot_be_meant_are_refused(keys, said):
    with pytest.raises(ConfigError, match=said):
        config(**keys)


def test_pairs_without_a_corrupt_prompt_are_refused(toy_networks, make_pairs, make_context):
    network = toy_networks["llama"]
    clean, _ = make_pairs(network.shape.d_vocab)
    empty = [Prompt((), (1,), (2,), {}, p.name) for p in clean]
    with pytest.raises(DataError, match="5 of the 5 examples for it have no corrupt prompt"):
        ABLATION.plan(config(), make_context(network, clean, corrupt=empty))


@pytest.mark.slow
def test_a_run_has_each_direction_beside_random_ones(cli_run):
    from tiny_ablation.store.reader import load_run

    bare, _ = cli_run("ablation=direction", "ablation.n_random=1", "ablation.n_text=0", directory="bare")
    [section] = ABLATION.sections(load_run(bare).summary)
    assert [row[-2:] for row in section.tables[0].rows] == [["-"] * 2] * 2
    directory, impact = cli_run("ablation=direction", "ablation.n_random=3", "metrics.names=[logit_diff]")
    assert set(impact["granularity"]) == {"direction"}
    run = load_run(directory)
    lines = run.summary["notes"]["beside_random_directions"]
    assert [line["n_random"] for line in lines] == [3, 3]
    assert all(line["text_kl"] > 0 and line["random_text_kl"] > 0 for line in lines)
    delta = impact.set_index("layer")["delta"]
    assert [line["delta"] for line in lines] == pytest.approx([delta[line["layer"]] for line in lines])
    [section] = ABLATION.sections(run.summary)
    assert "random directions of the same length" in " ".join(section.text)
    assert len(section.tables[0].rows) == 2
