"""The software bill of materials of an installation, in CycloneDX's JSON: the package, and what it needs at run time.

    python tools/sbom.py dist/sbom.json

The tools of development are left out, though they are installed here: of what cyclonedx-py finds in this environment, what can
be reached from the package's own dependencies is kept.
"""

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[1]


def main() -> int:
    """Write the file that is named on the command line."""
    out = Path(sys.argv[1])
    command = [sys.executable, "-m", "cyclonedx_py", "environment", sys.executable, "--output-reproducible", "--of", "JSON"]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    declared = tomllib.loads((HERE / "pyproject.toml").read_text())["project"]["dependencies"]
    bill = needed(json.loads(found), [re.split(r"[\s<>=!~;\[]", each)[0] for each in declared])
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(bill, indent=2) + "\n")
    print(f"{out}: {len(bill['components'])} packages")
    return 0


def needed(bill: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The bill without what cannot be reached from the packages of these names.

    Raises:
        SystemExit: one of them is not installed.
    """
    refs = {_plain(each["name"]): each["bom-ref"] for each in bill["components"]}
    if absent := [name for name in names if _plain(name) not in refs]:
        raise SystemExit(f"not installed, so the bill would not be whole: {', '.join(absent)}")
    edges = {each["ref"]: each.get("dependsOn", []) for each in bill.get("dependencies", [])}
    kept = _reached([refs[_plain(name)] for name in names], edges)
    return {
        **bill,
        "components": [each for each in bill["components"] if each["bom-ref"] in kept],
        "dependencies": [each for each in bill.get("dependencies", []) if each["ref"] in kept],
    }


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _reached(first: Iterable[str], edges: Mapping[str, Sequence[str]]) -> set[str]:
    kept: set[str] = set()
    todo = list(first)
    while todo:
        ref = todo.pop()
        if ref not in kept:
            kept.add(ref)
            todo += edges.get(ref, [])
    return kept


if __name__ == "__main__":
    sys.exit(main())
