"""Many directions on a plane."""

import numpy as np
from numpy.typing import NDArray

from tiny_ablation.config.seeds import derive_seed


def project(directions: NDArray[np.floating], seed: int) -> tuple[NDArray[np.float64], str]:
    """Places (n, 2) of directions (n, width), near each other where they point alike, and the name of the method.

    UMAP of cosine distances where it is installed (the extra `umap`), else the first two principal components.

    Reference: McInnes et al. 2018, "UMAP".
    """
    length = np.linalg.norm(directions, axis=1, keepdims=True)
    unit = directions / np.maximum(length, 1e-12)
    try:
        import umap  # pyright: ignore[reportMissingImports]
    except ImportError:
        return _principal(unit.astype(np.float64)), "PCA"
    if len(unit) < 16:  # fewer than a neighbourhood
        return _principal(unit.astype(np.float64)), "PCA"
    fit = umap.UMAP(metric="cosine", random_state=derive_seed(seed, "umap") % 2**31, n_jobs=1)
    return np.asarray(fit.fit_transform(unit), dtype=np.float64), "UMAP"


def _principal(unit: "NDArray[np.float64]") -> "NDArray[np.float64]":
    """The first two principal components, each with the sign that makes its largest entry positive."""
    centred = unit - unit.mean(0)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    places = np.zeros((len(unit), 2))
    k = min(2, len(sizes))
    places[:, :k] = left[:, :k] * sizes[:k]
    return places * np.where(places[np.abs(places).argmax(0), [0, 1]] < 0, -1.0, 1.0)
