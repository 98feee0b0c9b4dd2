import numpy as np
import pytest

from tiny_ablation.errors import GuardError
from tiny_ablation.stats.halves import absolute_without_bias, random_halves, top_set_agreement


def rng(seed=0):
    return np.random.default_rng(seed)


def test_halves_are_halves():
    assert (random_halves(7, 20, rng()).sum(1) == 3).all()
    assert len({tuple(row) for row in random_halves(8, 50, rng())}) > 20


def test_clear_sites_agree_and_noise_does_not():
    clear = rng().normal(size=(20, 60)) + np.r_[np.full(5, 10.0), np.zeros(15)][:, None]
    found = top_set_agreement(clear, np.arange(60), 5, 100, rng())
    assert found.jaccard == 1
    assert found.share.tolist() == [1.0] * 5 + [0.0] * 15
    assert found.first.sum() == pytest.approx(1)
    noise = rng().normal(size=(200, 60))
    assert top_set_agreement(noise, np.arange(60), 5, 100, rng()).jaccard < 0.1


def test_it_does_not_promise_more_than_an_independent_sample_gives():
    """Resampling one sample says .60 where an independent one agrees in .46."""
    said, true = [], []
    for seed in range(20):
        truth = rng(seed).normal(size=(100, 1)) * 0.3
        one, other = (truth + rng(seed + n).normal(size=(100, 40)) for n in (1000, 2000))
        said.append(top_set_agreement(one, np.arange(40), 10, 50, rng()).jaccard)
        tops = [set(np.argsort(-np.abs(x.mean(1)))[:10]) for x in (one, other)]
        true.append(len(tops[0] & tops[1]) / len(tops[0] | tops[1]))
    assert np.mean(true) - 0.2 <= np.mean(said) <= np.mean(true) + 0.03


def test_one_group_and_impossible_tops():
    assert np.isnan(top_set_agreement([[1.0, 2.0]], [0, 0], 1, 10, rng()).jaccard)
    with pytest.raises(GuardError, match="no top 3"):
        top_set_agreement([[1.0, 2.0]], [0, 1], 3, 10, rng())


def test_absolute_values_of_noise_average_to_nothing_and_real_ones_stay():
    noise = rng().normal(size=(2, 4000))
    assert abs(absolute_without_bias(noise)) < 0.05
    assert np.abs(noise).mean() > 0.7
    assert absolute_without_bias(noise - 5) == pytest.approx(5, abs=0.1)


def test_sites_that_tie_are_not_stable():
    """Of 40 sites one has an effect; the others have exactly none, as where no answer is lost."""
    values = np.zeros((40, 20))
    values[7] = 1.0
    found = top_set_agreement(values, np.arange(20), 10, 400, rng())
    assert found.share[7] == found.first[7] == 1
    assert np.delete(found.share, 7) == pytest.approx(9 / 39, abs=0.07)
    assert found.jaccard < 0.25
