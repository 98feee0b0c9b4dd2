"""The address of a tracking server: its password stays in the environment of this process and gets into no file.

Hydra writes the overrides of a command down, and so does the provenance of a run. So a password is taken out of the command
line before anything else looks at it, and kept where MLflow itself looks for the whole address.
"""

import os
import re
from collections.abc import Iterator, Sequence

VARIABLE = "MLFLOW_TRACKING_URI"
_GIVEN = re.compile(r"(\+{0,2}tracking\.uri=)(['\"]?)(.*)\2", re.DOTALL)
_USER = re.compile(r"^(\w[\w+.-]*://)[^/\s]*@")
_QUERY = re.compile(r"([?&][^=&]*(?:pass|pwd|token|secret|key)[^=&]*=)[^&\s]*", re.IGNORECASE)


def masked(uri: str) -> str:
    """The address without user, password or token, whose places are kept."""
    return _QUERY.sub(r"\1***", _USER.sub(r"\1***@", uri))


def whole(uri: str | None) -> str | None:
    """The address that is meant by what the config says, with its password."""
    kept = os.environ.get(VARIABLE)
    return kept if kept and uri == masked(kept) else uri


def hidden(args: Sequence[str]) -> Iterator[str]:
    """The arguments with the password of `tracking.uri`, if any, masked; the whole address goes to the environment."""
    for arg in args:
        match = _GIVEN.fullmatch(arg)
        if match and masked(match[3]) != match[3]:
            os.environ[VARIABLE] = match[3]
            yield f"{match[1]}{match[2]}{masked(match[3])}{match[2]}"
        else:
            yield arg
