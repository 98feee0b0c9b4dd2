"""Fingerprints of results: two numbers a column, by which a change of numbers is told from a change of bytes.

A column of numbers is described by its size, its missing values, its root mean square, and a weighted mean that notices a
change of order. Values differ between processors in their last digits, so numbers are compared within a tolerance, those in a
text too; its words are compared by their hash, but for the model's predictions, which may change where two answers nearly tie.
"""

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

# Names of runs and versions change without any number changing.
_NAME = re.compile(r"(run_id|digest|hash|sha256|sae.weights|version|seconds|directory)$")
_DRAWN = re.compile(r"(^|[._])(p|q|p_value|q_value|percentile|p_values|q_values|chance|stability.*)($|[._])")
_BOUND = re.compile(r"(low|high)$")  # of an interval, which an error that is nearly 0 makes sensitive
_FRACTION = re.compile(r"-?\d+\.\d+(e[+-]?\d+)?")
_PREDICTED = re.compile(r"prediction|changed|flips")
_RESULTS = (
    "metrics/*.parquet",
    "metrics/summary.json",
    "artifacts/cross_condition/*.parquet",
    "artifacts/cross_condition/*.json",
)


class Column(NamedTuple):
    """What is kept of a column."""

    size: int
    missing: int
    rms: float
    weighted: float
    kind: str  # empty for numbers; `name` for an identifier, which may change; `text` and a hash of it without its numbers
    sha: str  # of the exact values


def fingerprint(directory: Path) -> "dict[tuple[str, str], Column]":
    """By file and column, of every table and summary of a run or sweep; JSON values by their path, indices as `*`."""
    out = {}
    for path in sorted(p for pattern in _RESULTS for p in directory.glob(pattern)):
        name = path.relative_to(directory).as_posix()
        for column, values in _columns(path):
            out[name, column] = _describe(column, values)
    return out


def differences(old: "dict[tuple[str, str], Column]", new: "dict[tuple[str, str], Column]") -> tuple[list[str], list[str]]:
    """What differs, in words: in numbers (or in which columns there are), and in bytes only."""
    numbers, exact = [], []
    for key in sorted({*old, *new}):
        where = f"{key[0]}: {key[1]}"
        if key not in old or key not in new:
            numbers.append(f"{where}: {'new' if key in new else 'gone'}")
        elif reason := _differs(key[1], old[key], new[key]):
            numbers.append(f"{where}: {reason}")
        elif old[key].sha != new[key].sha:
            exact.append(where)
    return numbers, exact


def _columns(path: Path) -> Iterator[tuple[str, list[Any]]]:
    if path.suffix == ".parquet":
        frame = pd.read_parquet(path)
        for name in frame.columns:
            yield str(name), frame[name].explode().tolist()  # vectors: number by number
        return
    leaves: dict[str, list[Any]] = defaultdict(list)
    for name, value in _leaves(json.loads(path.read_text()), ()):
        leaves[name].append(value)
    yield from sorted(leaves.items())


def _leaves(value: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, (*path, str(key)))
    elif isinstance(value, list) and value:
        for inner in value:
            yield from _leaves(inner, (*path, "*"))
    else:
        yield ".".join(path), value


def _describe(name: str, values: list[Any]) -> Column:
    sha = hashlib.sha256(repr(values).encode()).hexdigest()[:8]
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    missing = sum(v is None or v != v for v in values)
    finite = np.array([v for v in numbers if v == v], dtype=float)
    if len(numbers) + sum(v is None for v in values) < len(values) or not finite.size:
        if _NAME.search(name):
            return Column(len(values), missing, 0.0, 0.0, "name", sha)
        text = repr(values)
        kind = f"text {hashlib.sha256(_FRACTION.sub('#', text).encode()).hexdigest()[:8]}"
        finite = np.array([float(found[0]) for found in _FRACTION.finditer(text)] or [0.0])
    else:
        kind = ""
    weights = 1 + np.modf(np.arange(len(finite)) * 0.6180339887)[0]
    return Column(len(values), missing, float(np.sqrt((finite**2).mean())), float((weights * finite).mean()), kind, sha)


def _differs(name: str, old: Column, new: Column) -> str:
    if _PREDICTED.search(name):
        return "" if old.size == new.size else f"{old.size} values, now {new.size}"
    if (old.size, old.missing) != (new.size, new.missing):
        return f"{old.size} values, {old.missing} missing; now {new.size}, {new.missing} missing"
    if old.kind != new.kind:
        return "another text"
    tolerance = 0.05 if _DRAWN.search(name) else 2e-4 + (5e-3 if _BOUND.search(name) else 1e-3) * old.rms
    worst = max(abs(old.rms - new.rms), abs(old.weighted - new.weighted))
    return f"off by {worst:.2g} (root mean square {old.rms:.4g}, now {new.rms:.4g})" if worst > tolerance else ""
