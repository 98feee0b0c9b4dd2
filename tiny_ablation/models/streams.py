"""What a block adds to the residual stream, found by writing what leaves it as a sum of what its modules gave.

    leaving = gain * entering + factor_1 * gave_1 + factor_2 * gave_2 + ...

The coefficients are solved for by least squares over all tokens and coordinates, of which there are far more than
coefficients, and the sum is then compared with what left the block. So norms and factors between a sub-layer and the residual
stream need not be known in advance: the module whose output is added is the one after the norm, and its factor is the
coefficient. If no such sum exists, one with a factor for each coordinate is tried. Blocks that norm the stream itself (BERT,
the first GPT, some OPT) are taken apart before and after each norm.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from tiny_ablation.models.watch import Event, Watched

# Coefficients below this are rounding; so is what is left of a sum, in units of its precision.
_NONE, _ROUNDING = 1e-3, 64
_MOST = 1e3  # Factors above this are rounding as well, of outputs that are nearly alike and cancel out.
_SPARE = 3  # tokens more than coefficients, so that a sum that is not there is not found
_DEPTHS = (1, 2, 3)  # how deep inside a block the modules that add may stand


@dataclass(frozen=True, eq=False)
class Term:
    """Something that is added; equal to itself alone."""

    event: Event  # the call of the module that gave it
    factor: float | Tensor  # by which it is multiplied: a number, or one for each coordinate


def alike(a: Term, b: Term) -> bool:
    """Whether two sums have the same term."""
    factors = [torch.as_tensor(term.factor, dtype=torch.float64) for term in (a, b)]
    return a.event.name == b.event.name and bool((factors[0] - factors[1]).abs().max() <= 0.01 * factors[0].abs().max())


def terms_of(watched: Watched) -> list[Term] | None:
    """What a block adds to the residual stream, in the order in which it was computed; None where that is not found."""
    assert watched.entering is not None
    assert watched.leaving is not None
    if watched.entering.shape != watched.leaving.shape:
        return None
    size, width = watched.entering.numel(), watched.entering.shape[-1]
    fitting = [e for e in watched.events if e.gave is not None and e.gave.numel() == size and e.gave.shape[-1] == width]
    for way in (_Sum.explain, _Sum.explain_by_coordinate):
        for depth in _DEPTHS:
            events = [e for e in fitting if e.name.count(".") < depth]
            found = way(_Sum(watched.entering, events), watched.leaving)
            if found is not None:
                order = {id(event): i for i, event in enumerate(watched.events)}
                return sorted(found, key=lambda term: order[id(term.event)])
    return None


def same(a: Tensor | None, b: Tensor | None) -> bool:
    """Whether two tensors hold the same numbers, however they are cut into rows."""
    if a is None or b is None or a.numel() != b.numel():
        return False
    return torch.equal(a.reshape(-1), b.reshape(-1))


def is_norm(event: Event) -> bool:
    """Whether the module keeps the form of what it is given and has no matrix: a norm, or a scale."""
    children = list(event.module.children())
    flat = all(p.dim() <= 1 for p in event.module.parameters(recurse=False))
    return (
        not children
        and flat
        and event.given is not None
        and event.gave is not None
        and event.given.numel() == event.gave.numel()
    )


class _Column(NamedTuple):
    event: Event | None  # None: what entered the block
    values: Tensor  # (tokens * d_model,) float64
    norm: Event | None = None  # the norm that gave the same, if one did


class _Sum:
    """The modules' outputs that may be terms of a sum; those that are the residual stream itself at some point are left out."""

    def __init__(self, entering: Tensor, events: Sequence[Event]) -> None:
        self._shape = (-1, entering.shape[-1])
        self._eps = torch.finfo(entering.dtype).eps
        self._trunk = _Column(None, _flat(entering))
        self._columns: list[_Column] = []
        for event in events:
            self._take(event)

    def _take(self, event: Event) -> None:
        assert event.gave is not None
        column = _Column(event, _flat(event.gave), event if is_norm(event) else None)
        for i, other in enumerate(self._columns):
            if torch.equal(other.values, column.values):
                if other.event is not None and other.event.name.startswith(f"{event.name}."):
                    # of two modules that give the same, the outer one
                    self._columns[i] = column._replace(norm=other.norm)
                return
        if not bool(column.values.any()) or self._solve(column.values, self._trunk, self._columns) is not None:
            return
        self._columns.append(column)

    def explain(self, leaving: Tensor) -> list[Term] | None:
        return self._explain(_flat(leaving), self._columns)

    def explain_by_coordinate(self, leaving: Tensor) -> list[Term] | None:
        """With a factor for each coordinate and a bias (Doge, Zaya); None where there are too few tokens to tell."""
        kept = [column for column in self._columns if column.norm is None]
        while kept and len(kept) + 2 + _SPARE <= leaving.numel() // leaving.shape[-1]:
            factors = self._fit_coordinates(_flat(leaving), kept)
            if factors is None:
                return None
            used = factors.abs().amax(1) > _NONE
            if bool(used.all()):
                terms = []
                for column, each in zip(kept, factors, strict=True):
                    first = each[0].item()
                    is_one = bool(((each - first).abs() <= _NONE * abs(first)).all())  # the same for all coordinates
                    if column.event is not None:
                        terms.append(Term(column.event, _round(first) if is_one else each.float()))
                return terms
            kept = [column for column, use in zip(kept, used, strict=True) if use]
        return None

    def _fit_coordinates(self, target: Tensor, columns: list[_Column]) -> Tensor | None:
        """(columns, d_model): the factors, where they explain the target."""
        values = [self._trunk.values, *(c.values for c in columns), torch.ones_like(target)]
        matrix = torch.stack([v.view(self._shape) for v in values], -1).transpose(0, 1)
        wanted = target.view(self._shape).T[..., None]
        solution = torch.linalg.lstsq(matrix, wanted, driver="gelsd").solution
        left = (wanted - matrix @ solution).abs().amax((1, 2))
        largest = torch.cat([matrix * solution.mT, wanted], -1).abs().amax((1, 2))
        if bool((left > _ROUNDING * self._eps * largest).any()) or bool((solution[:, 0].abs() <= _NONE).all()):
            return None
        return solution[:, 1:-1, 0].T

    def _explain(self, target: Tensor, columns: list[_Column]) -> list[Term] | None:
        for i, column in reversed([*enumerate(columns)]):
            if torch.equal(column.values, target):
                # The stream itself went through this module last; what it was given is taken apart instead.
                return self._before(column, columns[:i])
        found = self._solve(target, self._trunk, columns)
        if found is not None:
            return found
        for i, trunk in reversed([*enumerate(columns)]):
            if trunk.norm is not None:
                behind = self._solve(target, trunk, columns[:i] + columns[i + 1 :])
                before = None if behind is None else self._before(trunk, columns[:i])
                if behind is not None and before is not None:
                    return before + behind
        return None

    def _before(self, column: _Column, columns: list[_Column]) -> list[Term] | None:
        """What was added up to a norm that the stream itself goes through."""
        if column.norm is None or column.norm.given is None:
            return None
        return self._explain(_flat(column.norm.given), columns)

    def _solve(self, target: Tensor, trunk: _Column, columns: list[_Column]) -> list[Term] | None:
        """The terms of `target` beside the trunk; None where it is no such sum."""
        found = self._fit(target, trunk, columns)
        if found is None:
            return None
        gain, factors = found
        kept = [c for c, f in zip(columns, factors, strict=True) if abs(f) > _NONE]
        for column in list(kept):  # columns that are nearly alike share what belongs to one: as few as will do
            fewer = [c for c in kept if c is not column]
            if self._fit(target, trunk, fewer) is not None:
                kept = fewer
        again = self._fit(target, trunk, kept)
        if again is None:
            return None
        gain, factors = again
        if any(abs(f) > _MOST for f in factors):
            return None
        # Where all are multiplied by one number, it is the stream that is, behind the addition.
        whole = bool(factors) and all(abs(f - gain) <= _NONE * abs(gain) for f in factors)
        return [Term(c.event, 1.0 if whole else _round(f)) for c, f in zip(kept, factors, strict=True) if c.event]

    def _fit(self, target: Tensor, trunk: _Column, columns: list[_Column]) -> tuple[float, list[float]] | None:
        matrix = torch.stack([trunk.values, *(c.values for c in columns)], 1)
        sizes = matrix.norm(dim=0).clamp_min(1e-300)
        solution = torch.linalg.lstsq(matrix / sizes, target[:, None], driver="gelsd").solution[:, 0] / sizes
        parts = matrix * solution
        # (tokens,): what is left over, and the largest number that was added to or from
        left = (target - parts.sum(1)).view(self._shape).abs().amax(1)
        largest = torch.cat([parts, target[:, None]], 1).abs().amax(1).view(self._shape).amax(1)
        gain, *factors = solution.tolist()
        if abs(gain) <= _NONE or bool((left > _ROUNDING * self._eps * largest).any()):
            return None
        return gain, factors


def _flat(x: Tensor) -> Tensor:
    return x.detach().cpu().double().reshape(-1)


def _round(factor: float) -> float:
    return 1.0 if abs(factor - 1) <= _NONE else factor
