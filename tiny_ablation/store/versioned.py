"""Reading files that name other files (manifests, plans of sweeps), which may be a stranger's."""

from pathlib import Path
from typing import Any

from tiny_ablation.errors import ResultsError
from tiny_ablation.store.checksummed_json import read_sealed
from tiny_ablation.store.files import ANEW
from tiny_ablation.store.schema import SCHEMA_VERSION


def read_versioned(path: Path, advice: str = ANEW) -> dict[str, Any] | None:
    """The content of a sealed file that this version of the package can read; None where it does not say its version.

    Args:
        path: the file.
        advice: what to do about a damaged file.

    Raises:
        ResultsError: it is missing, is not as it was written, or is of a newer version.
    """
    content = read_sealed(path, advice)
    version = content.get("schema_version")
    if not isinstance(version, int):
        return None
    if version > SCHEMA_VERSION:
        raise ResultsError(f"{path} has schema version {version}; this tiny-ablate reads {SCHEMA_VERSION}. Upgrade it.")
    return content
