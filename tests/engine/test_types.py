"""What `TINY_ABLATE_CHECK_TYPES` promises: a tensor of another shape than is stated is refused, torch's own names included."""

import os

import pytest
import torch
from jaxtyping import TypeCheckError

from tiny_ablation.engine.bare.functions import _joined
from tiny_ablation.engine.edits import Cut, Edit
from tiny_ablation.engine.prompts import Prompt

pytestmark = [
    pytest.mark.slow,  # as the tests are that run with it
    pytest.mark.skipif(not os.environ.get("TINY_ABLATE_CHECK_TYPES"), reason="types of the engine are not checked"),
]


def test_a_tensor_of_another_shape_than_stated_is_refused():
    assert _joined(None, torch.zeros(1, 2, 3), causal=True).shape == (1, 1, 2, 3)
    with pytest.raises(TypeCheckError, match="added"):
        _joined(None, torch.zeros(2, 3), causal=True)


def test_two_tensors_that_share_an_axis_have_it_in_one_size():
    cut = Cut()
    edit = Edit("scores", 0, None, cut, keys=0)
    scores, meant = torch.zeros(2, 1, 3), torch.ones(2, 1, 3, dtype=torch.bool)
    assert cut.value(scores, meant, edit).isneginf().all()
    with pytest.raises(TypeCheckError, match="source"):
        cut.value(scores, meant[:1], edit)


def test_other_types_are_checked_too():
    with pytest.raises(TypeCheckError, match="ids"):
        Prompt([1, 2], (0,), (), {}, "a list")
