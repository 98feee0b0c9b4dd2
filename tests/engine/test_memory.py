"""Freed memory goes back to the system."""

import sys

import psutil
import pytest

from tiny_ablation.engine.memory import give_back

PIECES, PIECE = 1000, 100_000  # small enough to be taken from the heap, which shrinks from its end only


@pytest.mark.skipif(sys.platform != "linux", reason="other systems' allocators do this by themselves")
def test_what_is_free_between_things_in_use_is_given_back():
    process = psutil.Process()
    pieces = [bytearray(b"x" * PIECE) for _ in range(PIECES)]
    kept, before = pieces[::20], process.memory_info().rss
    del pieces
    give_back()
    assert process.memory_info().rss < before - PIECES * PIECE // 2
    assert all(piece[0] == ord("x") for piece in kept)
