"""JSON files that hold a checksum of their own content, the seal, which finds accidents but not forgers.

A file whose checksum stands in another file (tables, figures) needs no seal; those at the top, such as the manifest, do.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tiny_ablation.errors import ResultsError
from tiny_ablation.store.files import ANEW, as_written, read_object, to_json, write_json
from tiny_ablation.store.schema import SCHEMA_VERSION

SEAL = "seal"  # the SHA-256 of the text that the file would be without it


def write_sealed(path: Path, content: Mapping[str, Any]) -> Path:
    """Write `content` as JSON, and the seal as its last key."""
    return write_json(path, {**content, SEAL: _seal(content)})


def read_sealed(path: Path, advice: str = ANEW, *, required: bool = True) -> dict[str, Any]:
    """The content of a file that `write_sealed` wrote, without the seal; earlier versions wrote some without (`required`).

    Raises:
        ResultsError: the file is missing, is not JSON, or is not as it was written.
    """
    content = read_object(path, advice)
    rest = {key: value for key, value in content.items() if key != SEAL}
    if (required or SEAL in content) and content.get(SEAL) != _seal(rest):
        raise ResultsError(f"{path} is damaged: it does not have the checksum that stands in it. {advice}")
    return rest


def read_versioned(path: Path, advice: str = ANEW) -> dict[str, Any]:
    """The content of a sealed file that this version of the package can read.

    Raises:
        ResultsError: it is missing, is not as it was written, does not say its version, or is of a newer one.
    """
    content = read_sealed(path, advice)
    version = content.get("schema_version")
    if not isinstance(version, int):
        raise ResultsError(f"{path} is damaged (it has no schema_version). {advice}")
    if version > SCHEMA_VERSION:
        raise ResultsError(f"{path} has schema version {version}; this tiny-ablate reads {SCHEMA_VERSION}. Upgrade it.")
    return content


def _seal(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(as_written(to_json(content))).hexdigest()
