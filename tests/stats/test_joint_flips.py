import numpy as np

from tiny_ablation.stats.joint_flips import Condition, flipped_sizes, overlap_beyond_noise


def both_tops(means, k=5):
    tops = []
    for of_condition in means:
        members = np.zeros(of_condition.shape, dtype=bool)
        np.put_along_axis(members, np.argsort(-np.abs(of_condition), axis=1)[:, :k], True, axis=1)
        tops.append(members)
    return tops[0] & tops[1]


def of(values, names=None):
    return Condition(names or range(values.shape[1]), values, np.full(values.shape, 1 / values.shape[1]))


def beyond(draw, repeats=100):
    """How often two conditions are called more alike than chance."""
    found = []
    for seed in range(repeats):
        rng = np.random.default_rng(seed)
        a, b = draw(rng)
        conditions = [of(a), of(b)]
        size = int(both_tops([a.sum(1)[None], b.sum(1)[None]]).sum())
        sizes = flipped_sizes(conditions, both_tops, 200, rng)
        found.append(overlap_beyond_noise(size, sizes, small_is_alike=False).p_value <= 0.05)
    return np.mean(found)


def test_shared_noise_and_loud_heads_are_not_invariants():
    """Random sets of the same size call these "beyond chance" in 50 to 97 %."""

    def shared(rng):
        noise = rng.normal(size=(40, 12))
        return tuple(0.9 * noise + 0.44 * rng.normal(size=(40, 12)) for _ in range(2))

    def loud(rng):
        scale = np.exp(rng.normal(size=(40, 1)))
        return tuple(scale * rng.normal(size=(40, 12)) for _ in range(2))

    assert beyond(shared) <= 0.09
    assert beyond(loud) <= 0.09


def test_the_same_real_heads_are_found():
    def real(rng):
        effects = np.r_[np.full(5, 2.0), np.zeros(35)][:, None]
        return tuple(effects + rng.normal(size=(40, 12)) for _ in range(2))

    assert beyond(real, 20) == 1


def test_groups_of_one_name_are_flipped_together_and_small_unions_are_alike():
    values = np.random.default_rng(1).normal(size=(4, 4))
    same = flipped_sizes([of(values, "abcd"), of(values, "abcd")], lambda m: m[0] * m[1] > -1e-20, 50, np.random.default_rng(0))
    apart = flipped_sizes(
        [of(values, "abcd"), of(values, "efgh")], lambda m: m[0] * m[1] > -1e-20, 50, np.random.default_rng(0)
    )
    np.testing.assert_array_equal(same, 4)
    assert apart.mean() < 3
    found = overlap_beyond_noise(3, np.array([3, 4, 5, 2]), small_is_alike=True)
    assert (found.expected, found.p_value) == (3.5, 0.6)
