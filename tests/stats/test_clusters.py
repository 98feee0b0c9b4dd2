import numpy as np
import pytest

from tiny_ablation.errors import GuardError
from tiny_ablation.stats.clusters import cluster_sums


def test_sums_and_sizes_in_the_order_of_the_labels():
    found = cluster_sums([[1, 2, 3, 4], [10, 20, 30, 40]], ["b", "a", "b", "c"])
    np.testing.assert_array_equal(found.sums, [[2, 4, 4], [20, 40, 40]])
    np.testing.assert_array_equal(found.sizes, [1, 2, 1])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_value_that_is_no_number_is_named(bad):
    with pytest.raises(GuardError, match="Site 1, example 2 is"):
        cluster_sums([[1, 2, 3], [1, 2, bad]], [0, 0, 1])


@pytest.mark.parametrize(("values", "groups"), [([[1, 2]], [0]), ([1, 2], [0, 1]), (np.empty((2, 0)), [])])
def test_shapes_that_do_not_fit(values, groups):
    with pytest.raises(GuardError, match="do not fit"):
        cluster_sums(values, groups)
