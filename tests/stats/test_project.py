import sys
from types import SimpleNamespace

import numpy as np

from tiny_ablation.stats.project import project


def test_principal_components_keep_the_distances_of_a_plane(monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 2 * np.pi, 40)
    basis = np.linalg.qr(rng.normal(size=(9, 2)))[0].T
    on_circle = np.stack([np.cos(angle), np.sin(angle)], 1)
    places, how = project((on_circle @ basis) * rng.uniform(0.5, 3, (40, 1)), 0)
    assert how == "PCA"
    gaps = lambda x: np.linalg.norm(x[:, None] - x[None], axis=-1)  # noqa: E731
    np.testing.assert_allclose(gaps(places), gaps(on_circle), atol=1e-9)


def test_a_few_features_and_silent_ones_are_no_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    for n in (1, 2, 3):
        places, _ = project(np.zeros((n, 4)), 0)
        assert places.shape == (n, 2)
        assert np.isfinite(places).all()


def test_umap_where_it_is_installed(monkeypatch):
    asked = {}

    class Fit:
        def __init__(self, **how):
            asked.update(how)

        def fit_transform(self, x):
            return x[:, :2]

    monkeypatch.setitem(sys.modules, "umap", SimpleNamespace(UMAP=Fit))
    directions = np.random.default_rng(0).normal(size=(20, 5))
    places, how = project(directions, 3)
    assert how == "UMAP"
    assert asked["metric"] == "cosine"
    np.testing.assert_allclose(places, (directions / np.linalg.norm(directions, axis=1, keepdims=True))[:, :2])
