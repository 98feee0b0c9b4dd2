"""Small autoencoders, text for them, and activations whose features are known."""

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.sae.known import Known, known
from tiny_ablation.config.schema import SaeConfig
from tiny_ablation.sae.autoencoder import Autoencoder
from tiny_ablation.sae.site import Site

SMALL = {
    "width": 24,
    "k": 3,
    "context": 16,
    "own_samples": 2,
    "batch": 32,
    "steps": 12,
    "checkpoint_every": 5,
    "tokens": 320,
    "held_out": 128,
}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of the test's own."""
    monkeypatch.setenv("TINY_ABLATE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def small(tmp_path) -> Callable[..., SaeConfig]:
    """A recipe that takes a second, with a text of its own."""
    text = tmp_path / "text.txt"
    draws, words = (
        random.Random(0),
        ["France", "Paris", "Mary", "John", "drink", "store", "capital", "city", "Japan", "Tokyo"],
    )
    text.write_text("".join(f"{' '.join(draws.choices(words, k=12))} {draws.random()}\n" for _ in range(120)))

    def make(**keys: Any) -> SaeConfig:
        return SaeConfig(**{**SMALL, "corpus": str(text), **keys})

    return make


@pytest.fixture(scope="session")
def make_autoencoder() -> Callable[..., Autoencoder]:
    """A random autoencoder of an architecture of SAELens, at a place."""

    def make(width: int, *, architecture: str = "jumprelu", n: int = 20, site: Site | None = None, **keys: Any) -> Any:
        from sae_lens.saes.sae import SAE

        site = site or Site("resid_post", 1)
        cfg = {"architecture": architecture, "d_in": width, "d_sae": n, "metadata": {"hook_name": site.hook_name}, **keys}
        sae = SAE.from_dict(cfg)
        draws = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for name, tensor in sorted(sae.state_dict().items()):
                size = 0.3 if name in ("b_enc", "b_dec") else 0.05 if name == "threshold" else 1.0
                drawn = torch.randn(tensor.shape, generator=draws) * size
                tensor.copy_(drawn.abs() if name == "threshold" else drawn)
        return Autoencoder(sae, site, "a test", "sae:test")

    return make


@pytest.fixture(scope="session")
def planted() -> Known:
    """Activations of known directions."""
    return known()
