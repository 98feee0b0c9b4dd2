"""Directories of results that someone else may have made: what does not fit is told, and nothing leads out of them.

Checksums say that files are as their run left them, not that a run of this tool left them: whoever alters a file can make its
checksum anew. So what reads them cannot count on a key, a type or a range, and says so in one place.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tiny_ablation.errors import GuardError, ResultsError, TinyAblateError, said


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Tell what goes wrong with the content of files as a fault of the files."""
    try:
        yield
    except (TinyAblateError, MemoryError) as error:
        if not isinstance(error, GuardError):
            raise
        raise ResultsError(
            f"{path} holds numbers that no run of this version writes; run again to make them anew. {error}"
        ) from error
    except OSError as error:
        raise ResultsError(f"{path} cannot be used: {error.strerror or error}. Check the path and the disk.") from error
    except Exception as error:  # a wrong value can raise anything in the libraries that it is handed to
        raise ResultsError(
            f"{path} holds a file that no run of this version writes ({said(error)}); run again to make it anew, or set "
            "HYDRA_FULL_ERROR=1 to see where"
        ) from error


def refuse_links(root: Path) -> None:
    """Refuse to write into a directory from which a symbolic link leads to another one. The ResultsError names it."""
    inside = root.resolve()
    for directory, names, files in os.walk(root):
        for path in (Path(directory) / name for name in (*names, *files)):
            if path.is_symlink() and not path.resolve().is_relative_to(inside):
                raise ResultsError(
                    f"{path} is a link out of {root}, so nothing is written there; put what it leads to in its place"
                )
