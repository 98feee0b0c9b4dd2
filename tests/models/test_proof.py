"""A model whose parts are not what they look like is refused, by the name of the part."""

import pytest
import torch
from torch import nn

from tiny_ablation.errors import ModelError
from tiny_ablation.models import random_models
from tiny_ablation.models.loader import LoadedModel
from tiny_ablation.models.network import build_network
from tiny_ablation.models.random_models import random_model
from tiny_ablation.models.sources.toy import toy_llama


def network_of(hf):
    return build_network(LoadedModel("liar", hf, toy_llama()[1], (), "liar", {}))


def reason(network, component, layer):
    with pytest.raises(ModelError) as told:
        network.hook_point(component, layer)
    assert str(told.value).startswith(f"model liar: {component} of block {layer} cannot be used: ")
    return str(told.value)


def wrap(module, change):
    """Let a module give `change` of what it gives and of what it was given, in code that no hook sees."""
    forward = module.forward

    def changed(hidden_states, *args, **kwargs):
        out = forward(hidden_states, *args, **kwargs)
        first = change(out[0] if isinstance(out, tuple) else out, hidden_states)
        return (first, *out[1:]) if isinstance(out, tuple) else first

    module.forward = changed


def test_a_block_that_adds_a_hidden_term_is_refused_by_name_of_its_parts():
    hf, _ = toy_llama()
    wrap(hf.model.layers[1], lambda out, entering: out + 0.1 * torch.tanh(entering))
    network = network_of(hf)
    for component in ("attn_out", "mlp_out"):
        network.hook_point(component, 0)
        assert "do not add up to what leaves it" in reason(network, component, 1)
    network.hook_point("resid_post", 1)


def test_a_hidden_term_for_each_coordinate_is_no_factor():
    """Factors for each coordinate must not explain what no factor makes."""
    hf, _ = toy_llama()
    wrap(hf.model.layers[1], lambda out, entering: out + 1e-3 * entering * entering)
    assert "do not add up" in reason(network_of(hf), "mlp_out", 1)


def test_attention_that_gives_more_than_its_heads_is_refused():
    hf, _ = toy_llama()
    torch.manual_seed(0)
    more = 0.1 * torch.randn(hf.config.hidden_size)
    projection = hf.model.layers[1].self_attn.o_proj
    hidden = []
    hf.model.layers[1].register_forward_pre_hook(
        lambda _m, args, kwargs: hidden.append(args[0] if args else kwargs["hidden_states"]), with_kwargs=True
    )
    forward = projection.forward
    projection.forward = lambda x: forward(x) + more * hidden[-1]
    network = network_of(hf)
    network.hook_point("z", 0)
    assert "its attention gives more than its heads" in reason(network, "z", 1)


def test_an_error_in_a_forward_pass_is_a_refusal_that_names_the_module():
    hf, _ = toy_llama()

    def fails(*_args, **_kwargs):
        raise ZeroDivisionError("of a model's own")

    hf.model.layers[1].mlp.forward = fails
    with pytest.raises(ModelError) as told:
        network_of(hf)
    said = (
        "model liar: the forward pass of model.layers.1.mlp fails while it is taken apart (ZeroDivisionError: of a model's own)"
    )
    assert str(told.value).startswith(said)


def test_an_error_at_longer_prompts_is_a_refusal_as_well():
    hf, _ = toy_llama()
    mlp = hf.model.layers[0].mlp

    class Short(nn.Module):
        def forward(self, x):
            if x.shape[1] > 30:
                raise IndexError("too long")
            return mlp(x)

    hf.model.layers[0].mlp = Short()
    network = network_of(hf)
    with pytest.raises(ModelError, match=r"model.layers.0.mlp fails while its fast paths are proven \(IndexError: too long\)"):
        network.paths(64)


def test_too_little_memory_is_no_refusal():
    hf, _ = toy_llama()

    def fails(*_args, **_kwargs):
        raise torch.OutOfMemoryError("out of memory")

    hf.model.layers[1].mlp.forward = fails
    with pytest.raises(torch.OutOfMemoryError):
        network_of(hf)


def test_blocks_that_have_fewer_heads_than_most_are_refused(monkeypatch):
    unequal = {**random_models.SPECIAL["laguna"], "num_attention_heads_per_layer": [4, 8, 4, 4]}
    monkeypatch.setitem(random_models.SPECIAL, "laguna", unequal)
    network = network_of(random_model("laguna"))
    assert network.shape.n_heads == 4
    assert "it has 8 of them, and most blocks of this model have 4" in reason(network, "z", 1)
    assert network.hook_point("z", 0).units is not None
    network.hook_point("attn_out", 1)


@pytest.mark.parametrize(
    ("name", "component", "layer", "said"),
    [
        ("reformer", "resid_pre", 0, "it has several residual streams"),
        ("zamba", "attn_out", 1, "goes through other parts before it is added"),
        ("zamba", "mlp_out", 1, "goes through other parts before it is added"),
        ("xmod", "mlp_out", 0, "do not add up to what leaves it"),
    ],
)
def test_architectures_whose_parts_are_not_what_they_look_like(name, component, layer, said):
    assert said in reason(network_of(random_model(name)), component, layer)


def test_heads_whose_attention_goes_through_other_parts_stay():
    network_of(random_model("zamba")).hook_point("z", 1)


def test_a_model_of_several_stacks_is_refused():
    with pytest.raises(ModelError, match="several stacks of blocks"):
        network_of(random_model("blt"))
