"""Running a check on many drawn inputs: a few with every `make test`, thousands with `make fuzz`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.alter import Draws, Least


class Drawn:
    """Draws from hypothesis, which makes the smallest input that fails."""

    def __init__(self, data: Any) -> None:
        self._data = data

    def integer(self, low: int, high: int) -> int:
        return self._data.draw(st.integers(low, high))

    def some(self, most: int) -> bytes:
        return self._data.draw(st.binary(max_size=most))


def cases(quick: int, full: int, *, seconds: float = 30) -> Callable[[Callable[[Path, Draws], None]], Any]:
    """Make a test of a check: `quick` inputs, always the same ones; or `full` new ones, under the marker `fuzz`.

    Args:
        quick: how many inputs in `make test`.
        full: how many in `make fuzz`.
        seconds: that no single input may take.
    """

    def made(check: Callable[[Path, Draws], None]) -> Any:
        @pytest.mark.parametrize(
            "n",
            [pytest.param(quick, id="quick", marks=pytest.mark.slow), pytest.param(full, id="full", marks=pytest.mark.fuzz)],
        )
        def test(tmp_path: Path, n: int) -> None:
            always = {"derandomize": True, "database": None} if n == quick else {}

            @settings(max_examples=n, deadline=1000 * seconds, suppress_health_check=list(HealthCheck), **always)
            @given(st.data())
            def run(data: Any) -> None:
                check(tmp_path / "place", Drawn(data))

            check(tmp_path / "place", Least())  # the good files are made once, which no single input is charged for
            run()

        test.__doc__ = check.__doc__
        return test

    return made
