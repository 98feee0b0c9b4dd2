"""attn_pattern against softmaxes replaced by hand in the bare eager model, in both layouts, and its refusals."""

import pytest
import torch
from torch.overrides import TorchFunctionMode

from tests.ablations.conftest import checked
from tests.engine.test_families import CLOSE, build, prompts
from tests.families import N_HEADS, N_LAYERS, tiny
from tiny_ablation.ablations.attn_pattern import AttnPatternConfig, Pattern
from tiny_ablation.ablations.registry import find_ablation
from tiny_ablation.engine.attention import require_patterns
from tiny_ablation.engine.executor import Executor
from tiny_ablation.errors import ConfigError, DataError, ModelError
from tiny_ablation.metrics.registry import metric

ABLATION = find_ablation("attn_pattern")


def config(pattern="uniform", **keys):
    return AttnPatternConfig(kind="attn_pattern", pattern=Pattern(pattern), **keys)


class Softmaxes(TorchFunctionMode):
    """The n-th softmax over (1, heads, tokens, tokens) is that of block n; some heads of one get other weights."""

    def __init__(self, layer=None, heads=(), weights=None, queries=slice(None)):
        super().__init__()
        self.at, self.heads, self.weights, self.queries = layer, heads, weights, queries
        self.seen = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if getattr(func, "__name__", "") != "softmax" or args[0].dim() != 4:
            return out
        if len(self.seen) == self.at:
            sees = (args[0] > torch.finfo(args[0].dtype).min / 2).to(out)
            other = sees / sees.sum(-1, keepdim=True) if self.weights is None else self.weights[self.at]
            for head in self.heads:
                out[:, head, self.queries] = other[:, head, self.queries]
        self.seen.append(out)
        return out


@torch.no_grad()
def by_hand(hf, prompt, **changed):
    """The logit difference of a prompt, and every block's attention."""
    with Softmaxes(**changed) as softmaxes:
        logits = hf(input_ids=torch.tensor([prompt.ids]), use_cache=False).logits[0, -1].double()
    assert len(softmaxes.seen) == N_LAYERS
    return logits[prompt.target[0]] - logits[prompt.foil[0]], softmaxes.seen


def agrees(name, make_context, shared, pattern="uniform", **keys):
    """Every row on every prompt; returns the largest effect."""
    hf, network = tiny(name), build(name)
    ends = {"clean": prompts()[:4], "corrupt": prompts(first=60)[:4]}
    context = make_context(network, ends["clean"], corrupt=ends["corrupt"])
    [arm] = ABLATION.plan(config(pattern, **keys), context)
    plan, moved = [row.intervention for row in arm.rows], 0.0
    assert arm.prompts == ends["corrupt" if pattern == "clean" else "clean"]
    for result in Executor(network, arm.prompts, plan, [metric("logit_diff")], shared=shared):
        for place, example in enumerate(result.examples):
            prompt, weights = arm.prompts[example], None
            if pattern != "uniform":
                weights = by_hand(hf, ends[pattern][example])[1]
            queries = [prompt.last] if keys.get("positions") == "last" else slice(None)
            for number, row in enumerate(arm.rows):
                heads = [row.key["head"]] if "head" in row.key else range(N_HEADS)
                expected, _ = by_hand(hf, prompt, layer=row.key["layer"], heads=heads, weights=weights, queries=queries)
                found = result.values["logit_diff"][number, place]
                torch.testing.assert_close(found, expected, **CLOSE)
                moved = max(moved, (found - result.baseline["logit_diff"][place]).abs().item())
    return moved


HOW = [
    {"pattern": "uniform"},
    {"pattern": "uniform", "positions": "last", "together": True},
    {"pattern": "corrupt"},
    {"pattern": "clean", "together": True},
]
SLOW = ("mistral", "olmo2", "phi3", "mixtral")  # windows, norms of queries behind the projection, a fused one, experts


@pytest.mark.parametrize("shared", [True, False], ids=["tree", "buckets"])
@pytest.mark.parametrize("how", HOW, ids=lambda how: "-".join(map(str, how.values())))
@pytest.mark.parametrize(
    "name", ["llama", "gpt2", "neox", "gemma3", "olmo2", *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
)
def test_is_what_a_softmax_replaced_by_hand_gives(make_context, name, how, shared):
    assert agrees(name, make_context, shared, **how) > 0.01


@pytest.mark.parametrize("name", ["falcon_rw", "gpt_oss"])
def test_biases_of_positions_and_sinks_are_refused_for_uniform_and_right_for_another_run(make_context, name):
    with pytest.raises(ModelError, match=rf"model {name}: .* cannot be made uniform exactly: .* a sink"):
        agrees(name, make_context, True)
    assert agrees(name, make_context, None, pattern="corrupt", layers=[1]) > 0.001


def test_what_is_not_known_of_a_model_is_refused_by_name(make_context, monkeypatch):
    network = build("llama")
    monkeypatch.delitem(network.parts[1].points, "k")
    with pytest.raises(ModelError, match="k of block 1 cannot be used"):
        ABLATION.plan(config(), make_context(network, prompts()[:1]))


def test_attention_by_other_ways_than_queries_and_keys_is_refused(make_context):
    """Were what heads give multiplied by a gate that reads the stream, another run's queries and keys were not its pattern."""
    network = build("llama")
    attention = network.blocks[1].self_attn
    projection = attention.o_proj
    entered = []
    attention.register_forward_pre_hook(lambda _m, args, kwargs: entered.append(kwargs["hidden_states"]), with_kwargs=True)
    projection.register_forward_pre_hook(lambda _m, args: (args[0] * (1 + entered[-1].sigmoid()),))
    with pytest.raises(ModelError, match=r"cannot be replaced exactly: .* block 1 does not give what it gives there"):
        require_patterns(network, [0, 1], uniform=False)
    require_patterns(network, [0], uniform=False)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"together": True, "heads": [0]}, "leave one out"),
        ({"pattern": "corrupt", "positions": "last"}, "keys of another run reach every token"),
        ({"positions": "subject"}, "ablation.positions=subject: choose one of all, last"),
        ({"unequal": "never"}, "ablation.unequal=never: choose one of refuse, skip"),
    ],
)
def test_keys_against_each_other_are_refused(keys, said):
    with pytest.raises(ConfigError, match=said):
        checked(ABLATION, config(**keys))


def test_pairs_are_needed_for_patterns_of_another_run(make_context):
    network, clean = build("llama"), prompts()[:2]
    longer = [clean[0], prompts(first=60)[2]]
    with pytest.raises(DataError, match=r"1 of 2 examples differ: p1; ablation.unequal=skip"):
        ABLATION.plan(config("corrupt"), make_context(network, clean, corrupt=longer))
    skip = config("corrupt", unequal="skip")
    context = make_context(network, clean, corrupt=longer)
    assert list(ABLATION.excluded_examples(skip, context)) == [1]
    assert not ABLATION.excluded_examples(config(unequal="skip"), context)
    with pytest.raises(ConfigError, match=r"which have none for the tokens of an answer"):
        ABLATION.plan(config("clean"), make_context(network, clean, corrupt=clean, full=True))


def test_heads_with_one_norm_get_their_outputs_back_and_are_refused_over_answers(make_context):
    """The norm of OLMo 2's queries is over all heads; where heads have their own, one query is changed and nothing else."""
    clean = prompts()[:1]
    for name, edits in (("olmo2", [("q", None), ("z", None)]), ("llama", [("q", 1)])):
        [arm] = ABLATION.plan(config(layers=[1], heads=[1]), make_context(build(name), clean))
        assert [(edit.component, edit.unit) for edit in arm.rows[0].intervention.edits] == edits
    with pytest.raises(ConfigError, match=r"ablation.together=false in olmo2 with metrics.span=full or text"):
        ABLATION.plan(config(), make_context(build("olmo2"), clean, full=True))
    for name, keys in (("olmo2", {"together": True}), ("llama", {})):
        assert ABLATION.plan(config(**keys), make_context(build(name), clean, full=True))
