"""Where the engine first differs from the reference."""

import pytest
import torch

from tests.conftest import SHAPES
from tiny_ablation.models.moved import moved
from tiny_ablation.verify.locate import first_difference, trace_engine, trace_reference

FLOOR = 1e-3


@pytest.fixture
def traces(toy_networks, make_prompts):
    def make(shape):
        network = toy_networks[shape]
        prompt = make_prompts(network.shape.d_vocab)[-1]
        main = trace_engine(network, prompt)
        with moved(network, device="cpu", dtype="float64"):
            return network, main, trace_reference(network, prompt)

    return make


@pytest.mark.parametrize("shape", SHAPES)
def test_a_right_engine_agrees_everywhere(traces, shape):
    network, main, again = traces(shape)
    assert len(main) == len(again) == 4 * network.shape.n_layers
    assert "agrees at every layer" in first_difference(network, main, again, FLOOR)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_head_whose_part_is_wrong_is_named_whatever_the_architecture(traces, shape):
    network, main, again = traces(shape)
    projection = network.hook_point("z", 1).module
    alone = torch.zeros_like(again["z", 1])
    alone[:, 2] = again["z", 1][:, 2]
    with torch.no_grad():  # the head's part, by the model's own projection
        part = projection(alone.flatten(1).float()) - projection(torch.zeros_like(alone).flatten(1).float())
    main["attn_out", 1] = main["attn_out", 1] - 2 * part[:, None].double()
    main["mlp_out", 1] = main["mlp_out", 1] * 3
    said = first_difference(network, main, again, FLOOR)
    assert "the attention output of layer 1 is the first to differ" in said
    assert said.endswith("as if it held head 2 -1.00 times")


def test_what_no_head_explains_names_none(traces):
    network, main, again = traces("llama")
    main["attn_out", 0] = main["attn_out", 0] + torch.randn(
        main["attn_out", 0].shape, generator=torch.Generator().manual_seed(0)
    )
    said = first_difference(network, main, again, FLOOR)
    assert "the attention output of layer 0 is the first to differ" in said
    assert "head" not in said


@pytest.mark.parametrize(
    ("place", "said"),
    [(("resid_pre", 0), "the residual stream that enters layer 0"), (("z", 1), "the output of layer 1 head 0"),
     (("mlp_out", 1), "the MLP output of layer 1")],
)  # fmt: skip
def test_each_place_has_a_name(traces, place, said):
    network, main, again = traces("llama")
    main[place] = main[place].clone()
    main[place][:, 0] *= 1.01
    assert said in first_difference(network, main, again, FLOOR)
    main[place][:, 0] = torch.nan
    assert said in first_difference(network, main, again, FLOOR)
