"""Errors of the system and of libraries, in words for people."""

import errno

import numpy as np
import pytest
import torch

from tiny_ablation.errors import ConfigError, disk_trouble, is_out_of_memory, user_message


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError("could not create a primitive"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
)
def test_short_memory(error):
    assert is_out_of_memory(error)
    told = user_message(error)
    assert told is not None
    assert told.exit_code == 1
    assert str(told).startswith("memory ran out. What was finished is kept")


def test_an_array_that_is_too_large_is_short_memory():
    with pytest.raises(MemoryError) as caught:
        np.empty(2**50)
    assert user_message(caught.value) is not None


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/x/y"), "Cannot write /x/y: no space left on device; free some"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), "Cannot write /x: permission denied; check the permissions"),
        (OSError(errno.EROFS, "Read-only file system"), "Cannot write: read-only file system; choose another directory"),
        (Exception("Error while serializing: I/O error: File too large (os error 27)"), "Cannot write: file too large; raise"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "x" * 300), f"Cannot use {'x' * 300}: file name too long; shorten"),
        (
            RuntimeError("[enforce fail at inline_container.cc] . PytorchStreamWriter failed writing file data/0"),
            "Cannot write: the file could not be written to its end; free some space",
        ),
    ],
)
def test_a_file_that_cannot_be_written(error, said):
    told = user_message(error)
    assert told is not None
    assert told.exit_code == 2
    assert str(told).startswith(said)


@pytest.mark.parametrize(
    "error", [ValueError("no"), FileNotFoundError(errno.ENOENT, "No such file"), Exception("gone (os error 2)")]
)
def test_other_errors_mean_nothing_to_people(error):
    assert user_message(error) is None
    assert disk_trouble(error) is None


def test_an_error_of_our_own_stays_what_it_is():
    error = ConfigError("seed=abc")
    assert user_message(error) is error
