"""Every kind of ablation on many architectures, against hooks that are put on the bare eager model by hand.

One unpadded prompt at a time, mixed lengths, every component. Where the parts of each architecture are is written down in
`tests.families`, not found.
"""

import random
from contextlib import ExitStack, contextmanager
from itertools import cycle

import pytest
import torch
from torch.overrides import TorchFunctionMode

from tests.families import FAMILIES, N_LAYERS, VOCABULARY, hooked, n_units, tiny
from tiny_ablation.ablations.patching.noise import noise_on
from tiny_ablation.ablations.shared.means import Mean, MeanTable
from tiny_ablation.ablations.shared.replacements import FromEdited, Scale, patch_from
from tiny_ablation.engine.edits import Cut, Edit, Intervention
from tiny_ablation.engine.executor import Executor
from tiny_ablation.engine.gradients import AttributionQuery, estimate
from tiny_ablation.engine.means import Means
from tiny_ablation.engine.prompts import Prompt
from tiny_ablation.errors import ModelError
from tiny_ablation.metrics.registry import metric
from tiny_ablation.models.loader import LoadedModel
from tiny_ablation.models.network import Network, build_network
from tiny_ablation.models.random_models import random_model
from tiny_ablation.models.sources.toy import toy_llama

CLOSE = {"atol": 5e-5, "rtol": 0}
HEADS = ("z", "q", "k", "v")
LENGTHS = (6, 7, 12, 9, 6, 12, 8, 10)
# The whole matrix takes minutes; these stand for what differs: norms behind, factors, lengths, layouts, experts, masks.
ALWAYS = ("llama", "gpt2", "neox", "gemma3", "granite", "phi3", "falcon_rw", "mixtral", "gpt_oss")
NAMES = [name if name in ALWAYS else pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES]


def prompts(seed=0, first=None):
    """Prompts that share beginnings; `first` replaces the second token."""
    rng, stem = random.Random(0), tuple(range(5, 11))
    out = []
    for i, n in enumerate(LENGTHS):
        ids = (*stem[: n // 2], *(rng.randrange(5, VOCABULARY) for _ in range(n - n // 2)))
        ids = ids if first is None else (ids[0], first, *ids[2:])
        out.append(Prompt(ids, (17 + i,), (40 + i,), {"subject": (1, 2)}, f"p{i}"))
    return out


class CutScores(TorchFunctionMode):
    """The n-th softmax over (1, heads, tokens, tokens) is that of block n; edges are cut in what it is given."""

    def __init__(self, prompt, cuts):
        super().__init__()
        self.prompt, self.cuts, self.layer = prompt, cuts, 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if getattr(func, "__name__", "") != "softmax" or args[0].dim() != 4:
            return func(*args, **(kwargs or {}))
        scores, n, covers = args[0].clone(), args[0].shape[2], self.prompt.covers
        for edit in self.cuts:
            for q in range(n):
                for k in range(q):
                    if edit.layer == self.layer and covers(edit.positions, q) and covers(edit.keys, k):
                        scores[:, :, q, k] = -torch.inf
        self.layer += 1
        return func(scores, *args[1:], **(kwargs or {}))


class Judge:
    """The bare model with hooks by hand."""

    def __init__(self, name):
        self.name, self.hf = name, tiny(name)

    @contextmanager
    def hooks(self, ids, example, asked, edits):
        cuts = [edit for edit in edits if edit.keys is not None]
        made = [
            (edit.component, edit.layer, self.change(ids, example, asked, edit, unit), unit)
            for edit in edits
            if edit.keys is None
            for unit in (range(n_units(self.name, edit.component)) if self.is_split(edit) else [edit.unit or 0])
        ]  # source runs come before there are hooks
        with ExitStack() as stack:
            for how in made:
                stack.callback(hooked(self.hf, self.name, *how).remove)
            if cuts:
                stack.enter_context(CutScores(asked[example], cuts))
            yield

    def is_split(self, edit):
        return edit.unit is None and edit.component in (*HEADS, "neurons")

    def change(self, ids, example, asked, edit, unit):
        """Writes the replacement where the edit says; `x` is (1, tokens, width) of one unit."""
        replacement, prompt = edit.replacement, asked[example]
        source, aligned = None, {p: p for p in range(len(ids))}
        if replacement.sources is not None:
            of = replacement.sources[example]
            within = replacement.within.edits if replacement.within else ()
            source = self.seen(of, example, asked, within, edit.component, edit.layer, unit)
            aligned = {p: replacement.source_position(p, len(prompt.ids), len(of)) for p in range(len(ids))}
        elif replacement.lookup is not None:
            table = replacement.lookup.values(edit.component, edit.layer)[:, unit]
            source = table[[replacement.lookup.row(example, p) for p in range(len(ids))]]

        def change(x):
            shape, x = x.shape, x.reshape(1, len(ids), -1)  # some MLPs see tokens below each other
            new = x.clone()
            for p in range(len(ids)):
                if prompt.covers(edit.positions, p) and aligned[p] is not None:
                    given = None if source is None else source[aligned[p]][None, None]
                    new[0, p] = replacement.value(x[0, p][None, None], given, edit)[0, 0]
            return new.view(shape)

        return change

    @torch.no_grad()
    def seen(self, ids, example, asked, edits, component, layer, unit):
        """(tokens, width): what stands at a place in a run."""
        found = []

        def keep(x):
            found.append(x.reshape(len(ids), -1).clone())
            return x

        with self.hooks(ids, example, asked, edits):
            handle = hooked(self.hf, self.name, component, layer, keep, unit)
            try:
                self.hf(input_ids=torch.tensor([ids]), use_cache=False)
            finally:
                handle.remove()
        return found[0]

    @torch.no_grad()
    def logit_diff(self, asked, example, edits=()):
        prompt = asked[example]
        with self.hooks(prompt.ids, example, asked, edits):
            logits = self.hf(input_ids=torch.tensor([prompt.ids]), use_cache=False).logits[0, -1]
        return (logits[prompt.target[0]] - logits[prompt.foil[0]]).double()


def build(name) -> Network:
    try:
        hf = tiny(name, attn_implementation="sdpa")
    except ValueError:  # which this architecture does not have
        hf = tiny(name)
    return build_network(LoadedModel(name, hf, toy_llama()[1], False, name, {}))


def against_judge(judge, network, asked, plan, base_intervention=None):
    """Compare every cell; returns the largest effect."""
    executor = Executor(network, asked, plan, [metric("logit_diff")], base_intervention=base_intervention)
    below = base_intervention.edits if base_intervention else ()
    base = torch.stack([judge.logit_diff(asked, e, below) for e in range(len(asked))])
    moved = 0.0
    for result in executor:
        found = result.values["logit_diff"]
        examples = list(result.examples)
        torch.testing.assert_close(result.baseline["logit_diff"], base[examples], **CLOSE)
        for row, intervention in enumerate(plan):
            edits = (*below, *intervention.edits)
            expected = torch.stack([judge.logit_diff(asked, e, edits) for e in examples])
            torch.testing.assert_close(found[row], expected, **CLOSE, msg=lambda m, i=intervention: f"{i.label}: {m}")
            moved = max(moved, (expected - base[examples]).abs().max().item())
    return moved


@pytest.mark.parametrize("name", NAMES)
def test_every_component_and_replacement(name):
    judge, network, asked = Judge(name), build(name), prompts()
    places = [(c, layer) for layer in range(N_LAYERS) for c in FAMILIES[name].places]
    places += [(c, layer) for layer in range(N_LAYERS) for c in ("resid_pre", "resid_post")]
    means = Means(network, asked, [[0] * len(p.ids) for p in asked], 1, places)
    mean = Mean(MeanTable(means, [[0] * len(p.ids) for p in asked]))
    pairs, donors = patch_from(prompts(first=60), asked), patch_from([*asked[1:], asked[0]], asked)
    ways = cycle(
        [
            (Scale(0.0), "all"),
            (mean, "all"),
            (donors, "last"),
            (pairs, "all"),
            (Scale(0.5), "last"),
            (mean, "subject"),
            (pairs, "subject"),
        ]
    )
    units, plan = cycle([0, -1, None]), []
    for component, layer in places:
        n = n_units(name, component) if component in (*HEADS, "neurons") else 0
        for unit in (next(units), next(units)):
            unit = 7 if component == "neurons" else None if not n or unit is None else unit % n
            plan.append(Intervention((Edit(component, layer, unit, *next(ways)),)))
    assert against_judge(judge, network, asked, plan) > 0.02


@pytest.mark.parametrize("name", NAMES)
def test_pairs_sets_paths_and_noise(name):
    """Several edits in one run: pairs and sets of heads, a path with everything else frozen, a noised prompt restored."""
    judge, network, asked = Judge(name), build(name), prompts()
    zero, corrupt, clean = Scale(0.0), patch_from(prompts(first=60), asked), patch_from(asked, asked)
    pair = [Intervention((Edit("z", 0, 1, zero), Edit("z", layer, 2, zero))) for layer in range(N_LAYERS)]
    whole = Intervention(tuple(Edit("z", layer, None, zero) for layer in range(N_LAYERS)))
    frozen = [Edit(c, layer, None, clean) for layer in range(2) for c in ("z", "mlp_out") if (c, layer) != ("z", 0)]
    direct = Intervention((Edit("z", 0, 1, corrupt), *frozen))
    recorded = FromEdited(clean.sources, clean.lengths, direct)
    paths = [Intervention((Edit(component, 2, 0, recorded),)) for component in ("q", "v", "z")]
    assert against_judge(judge, network, asked, [*pair, whole, direct, *paths]) > 0.02
    noise = noise_on(network, asked, "subject", 2.0, seed=0, draw=0)
    restored = [Intervention((Edit(c, 1, None, clean, "subject"),)) for c in ("resid_post", "attn_out", "mlp_out")]
    assert against_judge(judge, network, asked, restored, base_intervention=noise) > 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_attention_edges(name):
    """Edges cut in one layer and in all, of one token and of all, beside a zeroed head; or the model is refused by name."""
    judge, network, asked, cut = Judge(name), build(name), prompts(), Cut()
    if name == "mpt":  # whose masks are true where others' are false
        with pytest.raises(ModelError, match="model mpt: edges between tokens cannot be cut exactly"):
            network.hook_point("scores", 0)
        return
    ends = [("subject", "last"), ("all", "last"), (0, "all"), ("subject", "all")]
    edges = [[Edit("scores", layer, None, cut, q, keys=k) for layer in range(N_LAYERS)] for k, q in ends]
    plan = [Intervention((edit,)) for of_ends in edges for edit in of_ends]
    plan += [Intervention(tuple(of_ends)) for of_ends in edges]
    plan += [Intervention((edges[0][1], Edit("z", 1, 0, Scale(0.0))))]
    assert against_judge(judge, network, asked, plan) > 0.02


@pytest.mark.parametrize("name", ["doge", "deepseek_v32"])
def test_masks_that_decide_over_more_than_scores_are_refused(name):
    """Doge and DeepSeek choose which tokens are seen by their masks, so cutting one edge would let in others."""
    network = build_network(LoadedModel(name, random_model(name), toy_llama()[1], False, name, {}))
    plan = [Intervention((Edit("scores", 0, None, Cut(), "last", keys=1),))]
    with pytest.raises(ModelError, match=f"model {name}: edges .* masks decide over more than the scores"):
        Executor(network, prompts()[:1], plan, [metric("logit_diff")])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("component", ["z", "attn_out", "mlp_out"])
def test_gradients(name, component):
    """The first-order estimate of zeroing a unit is minus its gradient times its value, summed over tokens."""
    judge, network, asked = Judge(name), build(name), prompts()[:4]
    found = estimate(network, asked, AttributionQuery(component))
    for example, prompt in enumerate(asked):
        for layer in range(N_LAYERS):
            for unit in range(found.shape[1]):
                held = []

                def hold(x, held=held):
                    held.append(x.detach().requires_grad_(True))
                    return held[0]

                handle = hooked(judge.hf, name, component, layer, hold, unit)
                with torch.enable_grad():
                    logits = judge.hf(input_ids=torch.tensor([prompt.ids]), use_cache=False).logits[0, -1]
                    (grad,) = torch.autograd.grad(logits[prompt.target[0]] - logits[prompt.foil[0]], held)
                handle.remove()
                expected = -(grad * held[0]).sum().item()
                assert found[layer, unit, example].item() == pytest.approx(expected, abs=2e-4, rel=1e-4)
