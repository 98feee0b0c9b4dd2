"""Where the engine first differs from the reference."""

import copy

import pytest
import torch

from tests.conftest import SHAPES
from tiny_ablation.engine.bare.model import Bare
from tiny_ablation.verify.locate import first_difference, trace_engine, trace_reference

FLOOR = 1e-3


@pytest.fixture
def traces(toy_networks, make_prompts):
    def make(shape):
        network = toy_networks[shape]
        prompt = make_prompts(network.shape.d_vocab)[-1]
        main = trace_engine(network, prompt)
        model = Bare(copy.deepcopy(network.hf).double())
        return model, main, trace_reference(model, prompt, main)

    return make


@pytest.mark.parametrize("shape", SHAPES)
def test_a_right_engine_agrees_everywhere(traces, shape):
    model, main, again = traces(shape)
    assert len(main) == len(again) == 4 * 2
    assert "agrees at every layer" in first_difference(model, main, again, FLOOR)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_head_whose_part_is_wrong_is_named_whatever_the_architecture(traces, shape):
    model, main, again = traces(shape)
    projection = model.output_projection(1)
    alone = torch.zeros_like(again["z", 1])
    alone[:, 2] = again["z", 1][:, 2]
    with torch.no_grad():  # the head's part, by the model's own projection
        part = projection(alone.flatten(1)) - projection(torch.zeros_like(alone).flatten(1))
    main["attn_out", 1] = main["attn_out", 1] - 2 * part[:, None].double()
    main["mlp_out", 1] = main["mlp_out", 1] * 3
    said = first_difference(model, main, again, FLOOR)
    assert "the attention output of layer 1 is the first to differ" in said
    assert said.endswith("as if it held L1H2 -1.00 times")


def test_what_no_head_explains_names_none(traces):
    model, main, again = traces("llama")
    main["attn_out", 0] = main["attn_out", 0] + torch.randn(
        main["attn_out", 0].shape, generator=torch.Generator().manual_seed(0)
    )
    said = first_difference(model, main, again, FLOOR)
    assert "the attention output of layer 0 is the first to differ" in said
    assert "head" not in said


@pytest.mark.parametrize(
    ("place", "said"),
    [
        (("resid_pre", 0), "the residual stream that enters layer 0"),
        (("z", 1), "the output of head L1H0"),
        (("mlp_out", 1), "the MLP output of layer 1"),
    ],
)
def test_each_place_has_a_name(traces, place, said):
    model, main, again = traces("llama")
    main[place] = main[place].clone()
    main[place][:, 0] *= 1.01
    assert said in first_difference(model, main, again, FLOOR)
    main[place][:, 0] = torch.nan
    assert said in first_difference(model, main, again, FLOOR)
