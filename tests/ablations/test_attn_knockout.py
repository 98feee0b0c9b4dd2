"""attn_knockout against the reference in both layouts, by what it must and must not change, and its refusals.

`tests.engine.test_kinds_on_families` holds it against softmaxes changed by hand on ten architectures.
"""

import pytest
import torch

from tests.ablations.conftest import checked
from tests.engine.test_families import build
from tiny_ablation.ablations.attn_knockout import AttnKnockoutConfig
from tiny_ablation.ablations.registry import find_ablation
from tiny_ablation.engine.edits import Cut, Edit, Intervention
from tiny_ablation.engine.executor import Executor
from tiny_ablation.engine.prompts import Prompt
from tiny_ablation.errors import ConfigError, DataError, GuardError, ModelError
from tiny_ablation.metrics.registry import metric

ABLATION = find_ablation("attn_knockout")


def config(**keys):
    return AttnKnockoutConfig(kind="attn_knockout", **keys)


def prompts_for(vocabulary, lengths=(7, 5, 7, 6)):
    """Prompts that share a beginning, with subjects at different places: shared nodes must not share what is cut."""
    rows = [(5, 9, 2, *range(10 + i, 10 + i + n - 3)) for i, n in enumerate(lengths)]
    return [
        Prompt(tuple(t % vocabulary for t in row), (1,), (2,), {"subject": (1 + i % 2,)}, f"p{i}") for i, row in enumerate(rows)
    ]


@pytest.mark.parametrize("shared", [True, False], ids=["tree", "buckets"])
@pytest.mark.parametrize("shape", ["llama", "gpt2"])
def test_agrees_with_the_reference(toy_networks, make_context, against_reference, shape, shared):
    network = toy_networks[shape]
    edges = ["subject to last", "rest to last", "first to all", "subject to all"]
    for window in (1, 9):
        context = make_context(network, prompts_for(network.shape.d_vocab))
        [arm] = ABLATION.plan(config(edges=edges, window=window), context)
        assert len(arm.rows) == len(edges) * network.shape.n_layers
        assert against_reference(network, arm, shared=shared) > 0.01


def test_a_window_stands_around_its_layer_and_is_described(toy_networks, make_context):
    network = toy_networks["llama"]
    context = make_context(network, prompts_for(network.shape.d_vocab))
    [arm] = ABLATION.plan(config(edges=["first to last"], window=2, layers=[1]), context)
    [row] = arm.rows
    assert [(e.layer, e.keys, e.positions) for e in row.intervention.edits] == [(0, "first", "last"), (1, "first", "last")]
    assert row.key == {"layer": 1, "position": "first to last", "granularity": "attention edges"}
    assert (row.described.positions, row.described.set) == ("first to last", "window of 2 layers")


def test_a_last_token_that_sees_itself_alone_is_deaf_to_the_rest(toy_networks, make_context):
    """With `all to last` in every layer, prompts of one length and one last token have the same logits, else they differ."""
    network = toy_networks["llama"]
    prompts = [Prompt((5, 9 + i, 2, 3 + i, 7), (1,), (2,), {"subject": (1,)}, f"p{i}") for i in range(3)]
    [arm] = ABLATION.plan(config(edges=["all to last"], window=99, layers=[0]), make_context(network, prompts))
    [result] = Executor(network, arm.prompts, [arm.rows[0].intervention], [metric("logit_diff")])
    torch.testing.assert_close(result.values["logit_diff"][0], result.values["logit_diff"][0][:1].expand(3), atol=1e-5, rtol=0)
    assert result.baseline["logit_diff"].std() > 1e-3


@pytest.mark.parametrize(
    ("edges", "said"),
    [
        ([], "is empty"),
        (["subject"], "'subject' is not two of first, subject, last, rest, all"),
        (["subject to nobody"], "last does not see subject"),
        (["first to last", "first  to last"], "twice"),
    ],
)
def test_names_that_are_none_are_refused(edges, said):
    with pytest.raises(ConfigError, match=said):
        checked(ABLATION, config(edges=edges))


def test_edges_that_no_token_has_are_refused(toy_networks, make_context):
    network = toy_networks["llama"]
    prompts = prompts_for(network.shape.d_vocab)
    for edge in ("last to first", "last to last"):
        with pytest.raises(DataError, match=r"4 of 4 examples have no edges last to .*write what is seen first"):
            ABLATION.plan(config(edges=[edge]), make_context(network, prompts))
    bare = [Prompt(p.ids, p.target, p.foil, {}, p.name) for p in prompts]
    with pytest.raises(DataError, match="4 examples have no subject"):
        ABLATION.plan(config(), make_context(network, bare))


def test_an_attention_that_takes_no_such_mask_is_refused_by_name(make_context):
    network = build("mpt")
    with pytest.raises(ModelError, match="model mpt: edges between tokens cannot be cut exactly"):
        network.hook_point("scores", 0)


@pytest.mark.parametrize(
    ("fault", "said"),
    [(lambda x: x.fill_(-torch.inf).diagonal(0, 1, 3).zero_(), "changes other tokens"), (lambda x: x.zero_(), "by other ways")],
    ids=["too much", "nothing"],
)
def test_what_a_mask_does_is_proven_on_the_model(monkeypatch, fault, said):
    """Were more or less cut than was asked for, the model would be refused."""
    from tiny_ablation.models import scores

    whole = scores.added_scores

    def wrong(module, shape, like):
        added = whole(module, shape, like)
        fault(added[:, :, None])
        return added

    monkeypatch.setattr(scores, "added_scores", wrong)
    with pytest.raises(ModelError, match=said):
        build("llama").hook_point("scores", 0)


def test_scores_and_keys_belong_together():
    with pytest.raises(GuardError, match="keys"):
        Edit("scores", 0, None, Cut(), "last")
    with pytest.raises(GuardError, match="keys"):
        Intervention((Edit("attn_out", 0, None, Cut(), "last", keys="subject"),))
