"""Continuations under interventions that stay on, against the bare model's own `generate` and against loops by hand.

Prompts of mixed lengths share batches here; the judge has one unpadded prompt at a time, and hooks that are put on by hand.
"""

import pytest
import torch

from tests.engine.test_families import Judge, build, prompts
from tests.families import N_LAYERS, hooked
from tiny_ablation.ablations.direction.vectors import Along, Given, Operation
from tiny_ablation.ablations.shared.means import Mean, MeanTable
from tiny_ablation.ablations.shared.replacements import Scale, patch_from
from tiny_ablation.engine.bare.model import Bare
from tiny_ablation.engine.decoding import Decoding, end_tokens
from tiny_ablation.engine.edits import Cut, Edit, Intervention
from tiny_ablation.engine.generation import Generation
from tiny_ablation.engine.means import Means
from tiny_ablation.engine.prompts import Prompt
from tiny_ablation.engine.reference import Reference
from tiny_ablation.errors import NumericsError
from tiny_ablation.metrics.readout import Metric
from tiny_ablation.metrics.registry import metric
from tiny_ablation.metrics.written import Asked, of_text
from tiny_ablation.models import continuing
from tiny_ablation.models.sources.toy import toy_llama

FAMILIES = ("llama", "gpt2", "neox", "gemma3")
NEW = 8


def decoding(network, asked, *, temperature=0.0, ends=None, stop=(), new=NEW):
    tokenizer = toy_llama()[1]
    ends = end_tokens(network.hf, tokenizer) if ends is None else frozenset(ends)
    targets = [Asked(p.name, "", (tokenizer.decode(list(p.target)),)) for p in asked]
    return Decoding(tokenizer, ends, new, temperature, stop, targets, [11 + i for i in range(len(asked))])


def generation(network, asked, plan, metrics=("text_changed",), **how):
    return Generation(network, asked, plan, [metric(m) for m in metrics], decoding=decoding(network, asked, **how))


def written(executor):
    """For the baseline and each intervention the new tokens of each prompt."""
    out = [[()] * len(executor.prompts) for _ in range(1 + len(executor.plan))]
    for result in executor:
        ids = torch.cat([result.written["written_baseline"][:, None], result.written["written"]], 1)
        for run in range(ids.shape[1]):
            for place, example in enumerate(result.examples):
                out[run][example] = tuple(i for i in ids[:, run, place].tolist() if i >= 0)
    return out


def plain(hf, prompt, seed, *, temperature=0.0, new=NEW, **how):
    """What transformers' own loop writes."""
    sampled = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0} if temperature else {"do_sample": False}
    torch.manual_seed(seed)
    ids = torch.tensor([prompt.ids])
    out = hf.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, pad_token_id=0, **sampled, **how)
    return tuple(out[0, len(prompt.ids) :].tolist())


@pytest.mark.parametrize("temperature", [0.0, 0.7], ids=["greedy", "sampled"])
@pytest.mark.parametrize("name", FAMILIES)
def test_equals_generate_with_the_hook_held_on(name, temperature):
    judge, network, asked = Judge(name), build(name), prompts()[:4]
    constant = torch.randn(64, generator=torch.Generator().manual_seed(1))
    added = Along(Operation.add, 3.0, Given(constant))
    changes = [
        (Edit("z", 1, 2, Scale(0.0)), lambda x: x * 0),
        (Edit("k", 0, 1, Scale(-1.0)), lambda x: -x),
        (Edit("mlp_out", 1, None, Scale(0.5)), lambda x: x * 0.5),
        (Edit("resid_post", 0, None, added), lambda x: x + 3.0 * constant),
    ]
    executor = generation(network, asked, [Intervention((e,)) for e, _ in changes], temperature=temperature)
    assert executor.keeps
    found = written(executor)
    for run, (edit, change) in enumerate([(None, None), *changes]):
        handle = edit and hooked(judge.hf, name, edit.component, edit.layer, change, edit.unit or 0)
        for example, prompt in enumerate(asked):
            assert found[run][example] == plain(judge.hf, prompt, 11 + example, temperature=temperature), (edit, example)
        if handle:
            handle.remove()
    assert sum(of_run != found[0] for of_run in found[1:]) >= 2


def by_hand(judge, asked, example, edits):
    """A pass over the whole text for each token, without a cache."""
    ids = asked[example].ids
    for _ in range(NEW):
        with judge.hooks(ids, example, asked, edits), torch.no_grad():
            logits = judge.hf(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]
        ids = (*ids, int(logits.argmax()))
    return ids[len(asked[example].ids) :]


@pytest.mark.parametrize("keeps", [True, False], ids=["kept", "anew"])
@pytest.mark.parametrize("name", [*FAMILIES, pytest.param("mixtral", marks=pytest.mark.slow)])
def test_what_ends_with_the_prompt_and_what_goes_on(name, keeps):
    """Means, patches, and edits of the last token or all but the first, in both ways of writing, against a loop by hand."""
    judge, network, asked = Judge(name), build(name), prompts()[:4]
    rows = [[0] * len(p.ids) for p in asked]
    mean = Mean(MeanTable(Means(network, asked, rows, 1, [("z", 1)]), rows))
    pairs = patch_from(prompts(first=60)[:4], asked)
    plan = [
        Intervention((Edit("z", 1, 3, mean), Edit("mlp_out", 2, None, Scale(0.0), "after_first"))),
        Intervention((Edit("attn_out", 0, None, Scale(0.0), "last"),)),
        Intervention((Edit("resid_post", 1, None, pairs),)),
        Intervention((Edit("mlp_out", 0, None, Scale(0.0), "subject"),)),
    ]
    executor = generation(network, asked, plan, ends=())
    executor.__dict__["keeps"] = keeps
    found = written(executor)
    for run, edits in enumerate([(), *(each.edits for each in plan)]):
        assert found[run] == [by_hand(judge, asked, e, edits) for e in range(len(asked))], edits
    assert sum(of_run != found[0] for of_run in found[1:]) >= 2


@pytest.mark.parametrize("name", ["llama", pytest.param("gpt2", marks=pytest.mark.slow)])
def test_attention_edges_stay_cut(name):
    """Scores are edited in passes over the whole text; new tokens are not the last one of the prompt."""
    judge, network, asked = Judge(name), build(name), prompts()[:3]
    for sees in ("last", "all"):
        edits = tuple(Edit("scores", layer, None, Cut(), sees, keys="subject") for layer in range(N_LAYERS))
        executor = generation(network, asked, [Intervention(edits)], ends=())
        assert not executor.keeps
        assert written(executor)[1] == [by_hand(judge, asked, e, edits) for e in range(len(asked))]


def test_a_text_ends_where_its_end_token_or_stop_stands():
    network, asked = build("llama"), prompts()
    plan = [Intervention((Edit("z", 1, 2, Scale(0.0)),))]
    whole = written(generation(network, asked, plan, ends=()))
    end = whole[1][0][3]
    cut = written(generation(network, asked, plan, ends=[end]))
    expected = [[row[: row.index(end) + 1] if end in row else row for row in run] for run in whole]
    assert cut == expected != whole
    longer = [decoding(network, asked, ends=()).text(p.ids, new) for p, new in zip(asked, whole[1], strict=True)]
    for stop in (longer[0][2:4], longer[0][3:]):
        assert len(stop) > 1
        executor = generation(network, asked, plan, ends=(), stop=(stop,))
        new = written(executor)[1]
        assert len(new[0]) < NEW or longer[0].endswith(stop)
        texts = [executor.decoding.text(p.ids, ids) for p, ids in zip(asked, new, strict=True)]
        assert texts == [text.partition(stop)[0] for text in longer]


def test_tokens_are_not_kept_where_the_model_computes_something_else(monkeypatch):
    """Were kept keys and values wrong, the texts would be written anew, and be the same."""
    network, asked = build("llama"), prompts()[:3]
    plan = [Intervention((Edit("z", 1, 2, Scale(0.0)),))]
    right, whole = written(generation(network, asked, plan)), continuing.continued
    monkeypatch.setattr(continuing, "continued", lambda *given: (whole(*given)[0] * 1.01, whole(*given)[1]))
    network.continuing.clear()
    executor = generation(network, asked, plan)
    assert not executor.keeps
    assert "logits differ" in network.switched_off[continuing.KEPT]
    assert written(executor) == right


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_reference_writes_the_same(temperature):
    network, asked = build("gpt2"), prompts()[:2]
    plan = [Intervention((Edit("z", layer, 2, Scale(0.0)),)) for layer in range(N_LAYERS)]
    names = ("text_changed", "text_begins")
    executor = generation(network, asked, plan, names, temperature=temperature)
    [result] = executor
    reference = Reference(Bare(Judge("gpt2").hf), asked, executor.metrics, decoding=executor.decoding)
    for example in range(2):
        cells = reference.cells([None, *plan], example)
        for name in names:
            found = [result.baseline[name][example], *result.values[name][:, example]]
            assert [cell.values[name] for cell in cells] == found
        assert all(0 < cell.margin < torch.inf for cell in cells)
        assert cells[1].margin <= cells[0].margin


def test_a_score_that_is_no_number_is_refused():
    network, asked = build("llama"), prompts()[:2]
    broken = Metric("text_broken", "", "", of_text(lambda text, asked: float("nan")), span="text")
    executor = Generation(network, asked, [], [broken], decoding=decoding(network, asked))
    with pytest.raises(NumericsError, match=r"nan for what was written behind p0"):
        list(executor)


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [0.0, 0.8], ids=["greedy", "sampled"])
def test_the_default_model_writes_what_generate_does_with_the_hook_held_on(smollm2_network, temperature):
    """Facts of several lengths in one batch; heads zeroed by a hook on the input of the output projection."""
    network, hf = smollm2_network, smollm2_network.hf
    tokenizer, heads = network.model.tokenizer, [(0, 4), (20, 2), (29, 5)]
    asked = [
        Prompt(tuple(tokenizer(text)["input_ids"]), (0,), (), {}, text)
        for text in ("The capital of France is", "Once upon a time there was a small dog who", "Water freezes at")
    ]
    plan = [Intervention((Edit("z", layer, head, Scale(0.0)),)) for layer, head in heads]
    executor = generation(network, asked, plan, temperature=temperature, new=12)
    assert executor.keeps
    found = written(executor)
    for run, site in enumerate([None, *heads]):
        handle = None
        if site:

            def zeroed(_module, args, head=site[1]):
                z = args[0].clone()
                z[..., head * 64 : (head + 1) * 64] = 0
                return (z,)

            handle = hf.model.layers[site[0]].self_attn.o_proj.register_forward_pre_hook(zeroed)
        for example, prompt in enumerate(asked):
            assert found[run][example] == plain(hf, prompt, 11 + example, temperature=temperature, new=12)
        if handle:
            handle.remove()
    assert sum(of_run != found[0] for of_run in found[1:]) >= 2
