"""Activations whose features are known."""

from typing import NamedTuple

import torch


class Known(NamedTuple):
    """Activations (n, 32) that are sums of a few known directions (20, 32) each."""

    directions: torch.Tensor
    activations: torch.Tensor


def known() -> Known:
    """The same at every call."""
    draws = torch.Generator().manual_seed(0)
    directions = torch.randn(20, 32, generator=draws)
    directions /= directions.norm(dim=1, keepdim=True)
    on = (torch.rand(12_000, 20, generator=draws) < 0.1) * (1 + torch.rand(12_000, 20, generator=draws))
    return Known(directions, on @ directions)


def recovered(found: torch.Tensor, planted: torch.Tensor) -> torch.Tensor:
    """For each planted direction the largest cosine with a found one."""
    unit = found / found.norm(dim=1, keepdim=True).clamp_min(1e-9)
    return (planted @ unit.T).max(1).values
