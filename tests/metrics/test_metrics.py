"""Every metric on two distributions that can be worked out by hand."""

import math

import pytest
import torch

from tiny_ablation.errors import ConfigError
from tiny_ablation.metrics.readout import Readout, Reads, of_sets, token_sets
from tiny_ablation.metrics.registry import metric, metric_names, span_of
from tiny_ablation.metrics.written import Asked, Written

# Probabilities over three tokens; the target is token 0 and the foil token 1.
BEFORE, AFTER = [0.5, 0.25, 0.25], [0.2, 0.6, 0.2]


def readout(*rows, dtype=torch.float32, shift=3.0, tokens=(0,), foils=(1,)):
    """(1, n_reads, n_tokens); a shift of all logits must change nothing."""
    n = len(rows)
    reads = Reads(
        tokens=token_sets([tokens] * n),
        example=torch.arange(n),
        is_foil=torch.zeros(n, dtype=torch.bool),
        foils=token_sets([foils] * n),
        n_examples=n,
    )
    return Readout((torch.tensor(rows).log() + shift)[None].to(dtype), reads)


@pytest.mark.parametrize(
    ("name", "value", "baseline"),
    [
        ("logit_diff", math.log(0.2 / 0.6), math.log(0.5 / 0.25)),
        ("prob_diff", 0.2 - 0.6, 0.5 - 0.25),
        ("p_drop", 0.5 - 0.2, 0.0),
        ("kl_div", 0.5 * math.log(0.5 / 0.2) + 0.25 * math.log(0.25 / 0.6) + 0.25 * math.log(0.25 / 0.2), 0.0),
        ("acc_flip_rate", 1.0, 0.0),
        ("acc_gain_rate", 0.0, 0.0),
        ("entropy", -sum(p * math.log(p) for p in AFTER), -sum(p * math.log(p) for p in BEFORE)),
    ],
)
def test_first_token_metrics(name, value, baseline):
    before, after = readout(BEFORE), readout(AFTER, shift=-1.0)
    assert metric(name).compute(after, before).item() == pytest.approx(value, abs=1e-6)
    assert metric(name).compute(before, before).item() == pytest.approx(baseline, abs=1e-6)


SET_BEFORE, SET_AFTER = [0.1, 0.2, 0.3, 0.25, 0.15], [0.05, 0.1, 0.15, 0.3, 0.4]


@pytest.mark.parametrize(
    ("name", "value", "baseline"),
    [
        ("logit_diff", math.log(0.2 / 0.7), math.log(0.4 / 0.4)),
        ("prob_diff", 0.2 - 0.7, 0.4 - 0.4),
        ("p_drop", 0.4 - 0.2, 0.0),
        ("acc_flip_rate", 1.0, 0.0),
        ("entropy", -sum(p * math.log(p) for p in SET_AFTER), -sum(p * math.log(p) for p in SET_BEFORE)),
        ("kl_div", sum(p * math.log(p / q) for p, q in zip(SET_BEFORE, SET_AFTER, strict=True)), 0.0),
    ],
)
def test_sets_of_answers_count_as_one(name, value, baseline):
    """Right are tokens 0 and 2, wrong 3 and 4; 1 is neither. Before, 2 is the most probable token, after it is 4."""
    sets = {"tokens": (0, 2), "foils": (3, 4)}
    before, after = readout(SET_BEFORE, **sets), readout(SET_AFTER, shift=-1.0, **sets)
    assert metric(name).compute(after, before).item() == pytest.approx(value, abs=1e-6)
    assert metric(name).compute(before, before).item() == pytest.approx(baseline, abs=1e-6)
    if name == "acc_flip_rate":
        assert metric("acc_gain_rate").compute(before, after).item() == 1.0


def test_sets_of_several_sizes_stand_beside_each_other():
    """What fills up a short set has no probability, and one token has exactly its own logit."""
    logits = torch.tensor([SET_BEFORE, SET_BEFORE]).log()[None]
    found = of_sets(logits, token_sets([(1,), (0, 2, 4)]))
    assert found[0, 0].item() == logits[0, 0, 1].item()
    assert found[0, 1].exp().item() == pytest.approx(0.1 + 0.3 + 0.15)


@pytest.mark.parametrize("name", [name for name in metric_names() if span_of(name) == "first"])
def test_which_way_a_metric_moves_when_the_model_gets_worse(name):
    """The target becomes the less probable one, or the reverse; a metric may stay where it is in one of the two."""
    found = metric(name)
    for worse, (before, after) in ((1, (BEFORE, AFTER)), (-1, (AFTER, BEFORE))):
        moved = found.compute(readout(after), readout(before)) - found.compute(readout(before), readout(before))
        if name != "kl_div" or worse == 1:  # any change of the output is a divergence
            assert moved.sign().item() * found.worse * worse >= 0
    assert (found.worse == 0) == (name == "entropy")


def test_metrics_of_whole_answers_have_the_side_of_their_first_token_versions():
    twins = {
        "seq_logprob_diff": "logit_diff",
        "seq_logprob_diff_norm": "logit_diff",
        "seq_p_drop": "p_drop",
        "seq_kl_mean": "kl_div",
        "seq_acc_flip_rate": "acc_flip_rate",
    }
    assert set(twins) == {name for name in metric_names() if name.startswith("seq_")}
    assert {name: metric(name).worse for name in twins} == {name: metric(twin).worse for name, twin in twins.items()}


def test_a_gain_is_the_reverse_of_a_flip():
    assert metric("acc_gain_rate").compute(readout(BEFORE), readout(AFTER)).item() == 1.0
    assert metric("acc_flip_rate").compute(readout(BEFORE), readout(AFTER)).item() == 0.0


def test_a_small_divergence_is_not_lost_in_rounding():
    tiny = 1e-3
    near = [0.5 + tiny, 0.25 - tiny, 0.25]
    exact = sum(p * math.log(p / q) for p, q in zip(BEFORE, near, strict=True))
    assert metric("kl_div").compute(readout(near), readout(BEFORE)).item() == pytest.approx(exact, rel=0.1)
    assert exact < 1e-5


def test_half_precision_logits_are_widened_before_anything_is_computed():
    found = metric("entropy").compute(readout(AFTER, dtype=torch.bfloat16), readout(BEFORE))
    assert found.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", [n for n in metric_names() if span_of(n) == "first"])
def test_no_metric_is_computed_in_half(name, dtype):
    """What a metric makes of half-precision logits is what double precision makes of the same logits, to single precision."""
    draws = torch.Generator().manual_seed(0)
    rows = (20 * torch.randn(2, 400, 50, generator=draws)).to(dtype)
    reads = Reads(token_sets([[0]] * 400), torch.arange(400), torch.zeros(400, dtype=torch.bool), token_sets([[1]] * 400), 400)
    half = metric(name).compute(Readout(rows[:1], reads), Readout(rows[1:], reads))
    exact = metric(name).compute(Readout(rows[:1].double(), reads), Readout(rows[1:].double(), reads))
    assert half.dtype == torch.float32
    torch.testing.assert_close(half.double(), exact, rtol=1e-5, atol=1e-5)
    in_half = (rows[0].log_softmax(-1) - rows[1].log_softmax(-1)).float()  # what would be seen were it not so
    apart = (in_half - (rows[0].double().log_softmax(-1) - rows[1].double().log_softmax(-1))).abs().max()
    assert apart > 1e-3


def test_an_impossible_token_adds_nothing_to_the_entropy():
    assert metric("entropy").compute(readout([0.5, 0.5, 0.0]), readout(BEFORE)).item() == pytest.approx(math.log(2))


def sequence_readout(target, foil):
    """One example whose answers have several tokens; each entry is the probability of the token that is scored."""
    steps = [*target, *foil]
    reads = Reads(
        tokens=token_sets([(0,)] * len(steps)),
        example=torch.zeros(len(steps), dtype=torch.long),
        is_foil=torch.tensor([False] * len(target) + [True] * len(foil)),
        foils=token_sets([(0,)] * len(steps)),
        n_examples=1,
    )
    return Readout(torch.tensor([[[p, 1 - p] for p in steps]]).log(), reads)


def test_sequence_metrics():
    before, after = sequence_readout([0.5, 0.8], [0.1]), sequence_readout([0.4, 0.5], [0.2])
    assert metric("seq_logprob_diff").compute(after, before).item() == pytest.approx(math.log(0.2 / 0.2), abs=1e-6)
    assert metric("seq_logprob_diff").compute(before, before).item() == pytest.approx(math.log(0.4 / 0.1))
    assert metric("seq_p_drop").compute(after, before).item() == pytest.approx(0.4 - 0.2)
    kl = lambda p, q: p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))  # noqa: E731
    assert metric("seq_kl_mean").compute(after, before).item() == pytest.approx((kl(0.5, 0.4) + kl(0.8, 0.5)) / 2, abs=1e-6)


@pytest.mark.parametrize("name", metric_names())
def test_a_metric_that_is_never_negative_says_so(name):
    """Else its effects would be tested against a mean of 0, which they cannot fall below, and every site be found."""
    draws = torch.Generator().manual_seed(0)

    def drawn():
        if span_of(name) == "first":
            return readout(torch.rand(3, generator=draws).softmax(-1).tolist())
        if span_of(name) == "text":
            text = (" a", " b")[int(torch.randint(2, (1,), generator=draws))]
            return Written([[text]], [Asked("one", "", (" a",))])
        target, foil = torch.rand(2, 2, generator=draws).tolist()
        return sequence_readout(target, foil)

    found, pairs = metric(name), [(drawn(), drawn()) for _ in range(200)]
    effects = torch.cat([found.compute(a, b) - found.compute(b, b) for a, b in pairs])
    assert effects.abs().max() > 0.1
    assert (effects.min() > -1e-6) == found.never_negative  # up to the rounding of single precision


def test_every_file_is_a_metric_of_its_name():
    assert {"logit_diff", "kl_div", "seq_kl_mean"} <= set(metric_names())
    for name in metric_names():
        assert metric(name).name == name
        assert metric(name).span == span_of(name)


def test_an_unknown_metric_is_refused_with_the_list():
    with pytest.raises(ConfigError, match=r"logit_dif.*logit_diff"):
        metric("logit_dif")


def random_logits(runs, vocabulary=49_152):
    return 3 * torch.randn(runs, 1, vocabulary, generator=torch.Generator().manual_seed(0))


def test_a_run_alone_has_the_same_metrics_to_the_bit_as_among_others():
    """Whatever the threads: a single long sum is what PyTorch cuts up among them."""
    logits, like, threads = random_logits(9), readout([1.0]), torch.get_num_threads()
    names = [name for name in metric_names() if metric(name).span == "first"]
    try:
        torch.set_num_threads(2)
        base = Readout(logits[:1], like.reads)
        for name in names:
            among = metric(name).compute(Readout(logits, like.reads), base)
            for run in range(len(logits)):
                alone = metric(name).compute(Readout(logits[run : run + 1], like.reads), base)
                assert torch.equal(alone[0], among[run]), (name, run)
            assert torch.equal(metric(name).compute(base, base)[0], among[0])
    finally:
        torch.set_num_threads(threads)


def test_norm_entropy_and_top_are_those_of_double_precision():
    logits, like = random_logits(5), readout([1.0])
    logits[1, 0, 7] = -math.inf
    logits[2, 0, [3, 5]] = 40.0
    found, log_p = Readout(logits, like.reads), logits.double().log_softmax(-1)
    torch.testing.assert_close(found.log_norm.double(), logits.double().logsumexp(-1), atol=2e-6, rtol=0)
    entropy = torch.special.entr(log_p.exp()).sum(-1)
    torch.testing.assert_close(found.entropy.double(), entropy, atol=5e-6, rtol=0)
    assert torch.equal(found.top1, logits.argmax(-1))
    assert found.top1[2] == 3


def test_a_token_that_is_never_possible_is_left_out_of_every_metric():
    """A masked row of the vocabulary: minus infinity in both runs, with which each metric is what it is without the token."""
    logits, like = random_logits(5), readout([1.0])
    few = [t for t in range(logits.shape[-1]) if t != 7]
    masked = logits.clone()
    masked[..., 7] = -math.inf
    for name in ("logit_diff", "prob_diff", "p_drop", "kl_div", "entropy", "acc_flip_rate"):
        whole = metric(name).compute(Readout(masked[1:], like.reads), Readout(masked[:1], like.reads))
        rest = metric(name).compute(Readout(logits[1:, :, few], like.reads), Readout(logits[:1, :, few], like.reads))
        assert whole.isfinite().all(), name
        torch.testing.assert_close(whole, rest, atol=1e-6, rtol=1e-5)
    lost = metric("kl_div").compute(Readout(masked[1:], like.reads), Readout(logits[:1], like.reads))
    assert (lost == math.inf).all()  # possible before, and impossible now
