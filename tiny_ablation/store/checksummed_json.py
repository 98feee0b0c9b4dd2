"""JSON files that say themselves whether they are as they were written.

What a checksum in another file protects (tables, figures) needs no seal; what stands at the top, such as the manifest that
holds those checksums, carries a checksum of its own content. It finds accidents, not forgers.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tiny_ablation.errors import ResultsError
from tiny_ablation.store.files import ANEW, as_written, read_object, to_json, write_json

SEAL = "seal"  # the SHA-256 of the text that the file would be without it


def write_sealed(path: Path, content: Mapping[str, Any]) -> Path:
    """Write `content` as JSON, and the seal as its last key."""
    return write_json(path, {**content, SEAL: _seal(content)})


def read_sealed(path: Path, advice: str = ANEW, *, required: bool = True) -> dict[str, Any]:
    """The content of a file that `write_sealed` wrote, without the seal.

    Args:
        path: the file.
        advice: what to do about a damaged file.
        required: refuse a file without a seal too, as earlier versions wrote some.

    Raises:
        ResultsError: the file is missing, is not JSON, or is not as it was written.
    """
    content = read_object(path, advice)
    rest = {key: value for key, value in content.items() if key != SEAL}
    if (required or SEAL in content) and content.get(SEAL) != _seal(rest):
        raise ResultsError(f"{path} is damaged: it does not have the checksum that stands in it. {advice}")
    return rest


def _seal(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(as_written(to_json(content))).hexdigest()
