"""In tests the shapes that functions declare are checked on every call."""

import numpy as np
import pytest
from jaxtyping import TypeCheckError

from tiny_ablation.stats.cluster_t import cluster_t
from tiny_ablation.stats.shrinkage import shrunken


def test_a_missing_axis():
    with pytest.raises(TypeCheckError):
        cluster_t(np.ones(3), np.ones(3))


def test_axes_of_one_name_that_differ_in_length():
    with pytest.raises(TypeCheckError):
        shrunken(np.ones(3), np.ones(2), np.ones(3))


def test_groups_that_are_as_many_as_their_sizes():
    with pytest.raises(TypeCheckError):
        cluster_t(np.ones((4, 3)), np.ones(2))
