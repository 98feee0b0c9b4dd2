"""What `tiny-ablate models` calls exact, against hooks that are put on the bare eager model by hand.

One unpadded prompt at a time, mixed lengths, some of them longer than windows; a head, a query, key and value where the network
offers them, what attention and MLP add, and the residual stream are zeroed, in every block.
"""

import random
import re
from pathlib import Path

import pytest
import torch

from tests.architectures import ARCHITECTURES, hook
from tiny_ablation.ablations.shared.replacements import Scale
from tiny_ablation.engine.edits import Edit, Intervention
from tiny_ablation.engine.executor import Executor
from tiny_ablation.engine.prompts import Prompt
from tiny_ablation.metrics.registry import metric
from tiny_ablation.models.loader import LoadedModel
from tiny_ablation.models.network import build_network
from tiny_ablation.models.random_models import VOCABULARY, random_model
from tiny_ablation.models.sources.toy import toy_llama

PAGE = (Path(__file__).resolve().parents[2] / "docs/models.md").read_text()
COLUMNS = {"z": 1, "mlp_out": 6, "resid_pre": 8}
UNITS = {"z": (0, -1), "q": (1,), "k": (0,), "v": (-1,)}
LENGTHS = (6, 13, 9, 11)
# The others take minutes; these stand for what differs: factors for each coordinate, blocks that are not run, hybrids, latents.
ALWAYS = ("doge", "mllama", "bamba", "deepseek_v32", "gpt_neox_japanese", "gemma4_text", "bert")
# With the weights of the first seed float32 is off float64 by a third of what is allowed, without any of our code.
SEEDS = {"qwen3_5_moe": 1, "qwen3_5_moe_text": 1}


def exact():
    """The architectures of the page whose heads, MLPs and residual streams are all exact, where they have them."""
    for line in PAGE.splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) == 10 and all(cells[i] in ("exact", "-") for i in COLUMNS.values()):
            yield cells[0]


NAMES = [name if name in ALWAYS else pytest.param(name, marks=pytest.mark.slow) for name in ARCHITECTURES]


def prompts():
    rng, stem = random.Random(0), tuple(range(20, 28))
    return [
        Prompt(
            (*stem[: n // 2], *(rng.randrange(10, VOCABULARY) for _ in range(n - n // 2))), (17 + i,), (40 + i,), {}, f"p{i}"
        )
        for i, n in enumerate(LENGTHS)
    ]


def test_every_architecture_that_is_called_exact_is_held():
    found = list(exact())
    assert len(found) > 150
    assert sorted(found) == sorted(ARCHITECTURES)
    said = re.search(r"in (\d+) of them", PAGE)
    assert said is not None
    assert int(said[1]) == len(found)


def tiny(name, **how):
    return random_model(name, seed=SEEDS.get(name, 0), **how)


def eager(name):
    try:
        return tiny(name, attn_implementation="eager")
    except ValueError:
        return tiny(name)


@torch.no_grad()
def by_hand(hf, name, prompt, component, layer, unit):
    """The difference of the logits of target and foil with a unit zeroed."""
    handle = None
    if component:
        place = ARCHITECTURES[name].at(hf, component, layer)
        assert place is not None, f"{component} of block {layer} is offered, and nobody has written down where it is"
        handle = hook(*place, unit, torch.zeros_like)
    try:
        logits = hf(input_ids=torch.tensor([prompt.ids]), use_cache=False).logits[0, -1]
    finally:
        if handle is not None:
            handle.remove()
    return (logits[prompt.target[0]] - logits[prompt.foil[0]]).double()


def zeroed(network):
    """(component, layer, unit or None) to be zeroed."""
    for layer, part in enumerate(network.parts):
        for component in ("z", "q", "k", "v", "attn_out", "mlp_out", "resid_pre", "resid_post"):
            point = part.points.get(component)
            if point is not None:
                n = 1 if point.units is None else len(point.units)
                yield from ((component, layer, u % n) for u in UNITS.get(component, (0,)))


@pytest.mark.parametrize("name", NAMES)
def test_zeroing_equals_a_hook_by_hand(name):
    hf, asked = eager(name), prompts()
    network = build_network(LoadedModel(name, tiny(name), toy_llama()[1], (), name, {}))
    places = list(zeroed(network))
    assert {"z", "resid_pre"} <= {component for component, *_ in places}
    zero = Scale(0.0)
    plan = [Intervention((Edit(c, layer, u if c in UNITS else None, zero),)) for c, layer, u in places]
    plain = torch.stack([by_hand(hf, name, p, "", 0, 0) for p in asked])
    moved = 0.0
    for result in Executor(network, asked, plan, [metric("logit_diff")]):
        examples = list(result.examples)
        torch.testing.assert_close(result.baseline["logit_diff"], plain[examples], atol=5e-5, rtol=0)
        for row, (component, layer, unit) in enumerate(places):
            expected = torch.stack([by_hand(hf, name, asked[e], component, layer, unit) for e in examples])
            torch.testing.assert_close(
                result.values["logit_diff"][row],
                expected,
                atol=5e-5,
                rtol=0,
                msg=lambda m, at=(component, layer, unit): f"{at}: {m}",
            )
            moved = max(moved, (expected - plain[examples]).abs().max().item())
    assert moved > 0.02
