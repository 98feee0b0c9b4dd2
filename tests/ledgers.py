"""Directories of runs that tests write by hand."""

from pathlib import Path

from tiny_ablation.store.ledger import keeping, sha256_file


def adopt(directory: Path) -> None:
    """Note every file of a directory in its ledger, as if it had been written under it; hidden files are no results."""
    with keeping(directory) as ledger:
        for path in sorted(directory.rglob("*")):
            if path.is_file() and not path.name.startswith("."):
                ledger.note(path, sha256_file(path))
