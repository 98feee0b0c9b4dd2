"""A finished autoencoder at its place in a network, whatever its architecture."""

import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from tiny_ablation.errors import ModelError
from tiny_ablation.sae.site import Site

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Encoded(NamedTuple):
    """What an autoencoder makes of n activations."""

    features: "Tensor"  # (n, n_features) activations of the features
    # (n, 1), or 1 unless the autoencoder normalises each token: how long a feature's direction is in this token's activation
    gain: "Tensor | float"
    output: "Tensor"  # (n, width) the reconstruction


@dataclass
class Autoencoder:
    """An autoencoder of SAELens, at a place.

    Raises:
        ModelError: its output is not a sum over features, so that switching a feature off is not defined.
    """

    sae: Any  # SAELens' object, on the device of the network
    site: Site
    source: str  # where it comes from, for people
    identity: str  # of its weights
    trained: dict[str, Any] = field(default_factory=dict)  # its provenance, if it was trained here
    _copies: "dict[tuple[torch.dtype, torch.device], Any]" = field(default_factory=dict)

    def __post_init__(self) -> None:
        import torch

        sae = self.sae
        sae.requires_grad_(False).eval()
        sae.turn_off_forward_pass_hook_z_reshaping()  # heads come side by side already
        x = torch.randn(8, sae.cfg.d_in, generator=torch.Generator().manual_seed(0)).to(sae.W_dec)
        found = self.encode(x)
        sae.encode(x)  # an architecture that normalises each token decodes by what it has seen last
        with torch.no_grad():
            empty = sae.decode(torch.zeros_like(found.features))
        total = found.features @ self.directions * found.gain
        if found.output.shape != x.shape or not torch.allclose(found.output - empty, total, rtol=1e-3, atol=1e-3):
            raise ModelError(
                f"sae: the output of the architecture {sae.cfg.architecture()} is no sum over features, so no feature can be "
                "switched off alone; take a standard, top-k, batch-top-k, gated or JumpReLU autoencoder"
            )

    @property
    def n_features(self) -> int:
        """How many features there are."""
        return self.sae.cfg.d_sae

    @property
    def directions(self) -> "Tensor":
        """(n_features, width): what one unit of each feature adds to the activation."""
        return _directions(self.sae)

    def encode(self, x: "Tensor") -> Encoded:
        """Features and reconstruction of (n, width) activations, in their precision."""
        import torch

        sae = self._as(x)
        with torch.no_grad():
            features = sae.encode(x)
            # What the decoder is about to multiply by, for architectures that normalise each token.
            coefficient = getattr(sae, "x_norm_coeff", None)
            gain = 1.0 if coefficient is None else 1 / coefficient
            if getattr(sae, "ln_std", None) is not None:
                gain = sae.ln_std.clone()
            return Encoded(features, gain, sae.decode(features))

    def written(self, x: "Tensor", feature: int) -> "Tensor":
        """(n, width): what `feature` adds to the reconstruction of each activation."""
        found = self.encode(x)
        return found.features[:, feature, None] * found.gain * _directions(self._as(x))[feature]

    def _as(self, x: "Tensor") -> Any:
        """The autoencoder in the precision and at the place of `x`."""
        key = (x.dtype, x.device)
        if key not in self._copies:
            same = (self.sae.W_dec.dtype, self.sae.W_dec.device) == key
            self._copies[key] = self.sae if same else copy.deepcopy(self.sae).to(x.device, x.dtype)
        return self._copies[key]


def _directions(sae: Any) -> "Tensor":
    norm = sae.W_dec.norm(dim=-1, keepdim=True) if getattr(sae.cfg, "rescale_acts_by_decoder_norm", False) else 1
    return sae.W_dec / norm
