"""The judge of every number: the plain Hugging Face model, one unpadded prompt, a hook written by hand."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from tiny_ablation.ablations.shared.replacements import Scale
from tiny_ablation.config.schema import DatasetConfig, Span, Split
from tiny_ablation.data.corpus import load_corpus, select
from tiny_ablation.data.tokens import tokenize
from tiny_ablation.engine.edits import Edit, Intervention
from tiny_ablation.engine.executor import Executor
from tiny_ablation.engine.prompts import Prompt
from tiny_ablation.metrics.registry import metric
from tiny_ablation.run.baseline import prompt_of

HEADS = [(0, 4), (3, 0), (11, 8), (20, 2), (29, 5)]
NAMES = ("logit_diff", "prob_diff", "p_drop", "kl_div", "acc_flip_rate", "entropy")


@pytest.fixture(scope="module")
def prompts(smollm2):
    """Facts of several lengths."""
    return prompts_of(smollm2, "facts")


@pytest.fixture(scope="module")
def years(smollm2):
    """Prompts with sets of right and wrong answers."""
    return prompts_of(smollm2, "greater_than")


def prompts_of(model, family):
    corpus = load_corpus(DatasetConfig(name=family, family=family), seed=0)
    examples = select(corpus, Split.all, 10, 3)
    tokens = tokenize(examples, model.tokenizer, opening=model.opening, span=Span.first)
    out = [prompt_of(t) for t in tokens]
    assert len({len(p.ids) for p in out}) > 2
    return out


@torch.no_grad()
def plain_logits(model, ids, layer=None, head=None, scale=0.0):
    """(d_vocab,) float32 logits after the last token."""
    handle = None
    if layer is not None:

        def pre_hook(_module, args):
            z = args[0].clone()
            z[:, :, head * 64 : (head + 1) * 64] *= scale
            return (z,)

        handle = model.model.layers[layer].self_attn.o_proj.register_forward_pre_hook(pre_hook)
    try:
        return model(torch.tensor([ids])).logits[0, -1]
    finally:
        if handle is not None:
            handle.remove()


def expected_metrics(model, prompt, layer, head, scale):
    base, run = plain_logits(model, prompt.ids), plain_logits(model, prompt.ids, layer, head, scale)
    p_base, p_run = base.softmax(-1), run.softmax(-1)
    target, foil = prompt.target[0], prompt.foil[0]
    return {
        "logit_diff": (run[target] - run[foil]).item(),
        "prob_diff": (p_run[target] - p_run[foil]).item(),
        "p_drop": (p_base[target] - p_run[target]).item(),
        "kl_div": functional.kl_div(run.log_softmax(-1), base.log_softmax(-1), log_target=True, reduction="sum").item(),
        "acc_flip_rate": float(base.argmax() == target and run.argmax() != target),
        "entropy": torch.distributions.Categorical(logits=run).entropy().item(),
    }


def check_means(pairs):
    """Means of (found, expected) over the prompts; a single example may differ by the noise of sdpa's kernels."""
    for site, both in pairs.items():
        got, value = (sum(x) / len(both) for x in zip(*both, strict=True))
        assert got == pytest.approx(value, abs=5e-5), site


def run(network, prompts, *, scale=0.0, **how):
    """For each prompt's name {metric: (n_heads,)}."""
    plan = [Intervention((Edit("z", layer, head, Scale(scale)),)) for layer, head in HEADS]
    out = {}
    for result in Executor(network, prompts, plan, [metric(name) for name in NAMES], **how):
        for column, example in enumerate(result.examples):
            out[prompts[example].name] = {name: result.values[name][:, column] for name in NAMES}
    return out


@pytest.mark.parametrize("shared", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["tree", "buckets"])
@pytest.mark.parametrize("scale", [0.0, pytest.param(0.5, marks=pytest.mark.slow)])
def test_every_metric_of_every_head_and_example(smollm2_network, prompts, shared, scale):
    found = run(smollm2_network, prompts, scale=scale, shared=shared)
    means = {}
    for prompt in prompts:
        for row, (layer, head) in enumerate(HEADS):
            expected = expected_metrics(smollm2_network.hf, prompt, layer, head, scale)
            for name, value in expected.items():
                got = found[prompt.name][name][row].item()
                # A single example may differ by the noise of sdpa's kernels; the mean of the table may not.
                assert got == pytest.approx(value, abs=2e-4), (prompt.name, layer, head, name)
                means.setdefault((layer, head, name), []).append((got, value))
    check_means(means)


@pytest.mark.slow
@pytest.mark.parametrize("shared", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["tree", "buckets"])
def test_sets_of_answers_are_sums_of_probabilities(smollm2_network, smollm2, years, shared):
    """Greater-than: p(decades above) - p(the others), summed by hand from the digits of the start that the text shows."""
    digit = [smollm2.tokenizer.convert_tokens_to_ids(str(d)) for d in range(10)]
    found, pairs = run(smollm2_network, years, shared=shared), {}
    for prompt in years:
        decade = int(smollm2.tokenizer.decode(prompt.ids).split("9")[0][-1])  # every start ends in 9
        above, others = digit[decade + 1 :], digit[: decade + 1]
        base = plain_logits(smollm2_network.hf, prompt.ids).softmax(-1)
        for row, (layer, head) in enumerate(HEADS):
            logits = plain_logits(smollm2_network.hf, prompt.ids, layer, head)
            p = logits.softmax(-1)
            p_above, p_others = p[above].sum(), p[others].sum()
            expected = {
                "prob_diff": p_above - p_others,
                "logit_diff": (p_above / p_others).log(),
                "p_drop": base[above].sum() - p_above,
                "acc_flip_rate": float(base.argmax() in above and p.argmax() not in above),
            }
            for name, value in expected.items():
                got = found[prompt.name][name][row].item()
                assert got == pytest.approx(float(value), abs=2e-4), (prompt.name, layer, head, name)
                pairs.setdefault((layer, head, name), []).append((got, float(value)))
    check_means(pairs)


@pytest.mark.slow
def test_mixed_lengths_single_rows_and_another_order_agree(smollm2_network, prompts):
    together = run(smollm2_network, prompts)
    mean = lambda found: torch.stack([found[p.name]["logit_diff"] for p in prompts]).mean(0)  # noqa: E731
    alone = {}
    for prompt in prompts:
        alone |= run(smollm2_network, [prompt])
    turned = run(smollm2_network, prompts[::-1], batch_tokens=300)
    torch.testing.assert_close(mean(alone), mean(together), atol=5e-5, rtol=0)
    torch.testing.assert_close(mean(turned), mean(together), atol=5e-5, rtol=0)


def test_the_judge_would_catch_a_hook_on_the_projections_output(smollm2_network, prompts, monkeypatch):
    real = type(smollm2_network).hook_point

    def wrong(self, component, layer):
        point = real(self, component, layer)
        return replace(point, side="out") if component == "z" else point

    monkeypatch.setattr(type(smollm2_network), "hook_point", wrong)
    prompt = prompts[0]
    found = run(smollm2_network, [prompt])[prompt.name]["logit_diff"]
    expected = [expected_metrics(smollm2_network.hf, prompt, layer, head, 0.0)["logit_diff"] for layer, head in HEADS]
    assert max(abs(a - b) for a, b in zip(found.tolist(), expected, strict=True)) > 1e-2


def test_the_judge_would_catch_reading_another_position(smollm2_network, prompts, monkeypatch):
    monkeypatch.setattr(Prompt, "last", property(lambda self: len(self.ids) - 2))
    prompt = prompts[0]
    found = run(smollm2_network, [prompt])[prompt.name]["logit_diff"]
    expected = [expected_metrics(smollm2_network.hf, prompt, layer, head, 0.0)["logit_diff"] for layer, head in HEADS]
    assert max(abs(a - b) for a, b in zip(found.tolist(), expected, strict=True)) > 1e-2
