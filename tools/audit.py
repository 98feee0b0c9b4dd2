"""Are the installed packages known to be vulnerable? `make audit`, a part of `make check`.

pip-audit asks the package index for advisories. Exit code 1 where there is one that is not excused in pyproject.toml
(`[tool.audit.excused]`, an id with its reason). Without a network, or with an index that has no advisories (a mirror), nothing
can be said, and that is what is printed: `not audited`.

    python tools/audit.py
"""

import json
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[1]
OWN = "tiny-ablation"


def main() -> int:
    """Audit this environment."""
    excused = tomllib.loads((HERE / "pyproject.toml").read_text())["tool"]["audit"]["excused"]
    command = [sys.executable, "-m", "pip_audit", "--format", "json", "--progress-spinner", "off", "--skip-editable"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines, code = judged(done.stdout, done.stderr, excused)
    print(*lines, sep="\n")
    return code


def judged(out: str, err: str, excused: Mapping[str, str]) -> tuple[list[str], int]:
    """What to print and the exit code.

    Args:
        out: what pip-audit printed: JSON, or nothing where it could not ask.
        err: what it said besides.
        excused: reasons by the id of an advisory.
    """
    try:
        packages: Sequence[Mapping[str, Any]] = json.loads(out)["dependencies"]
    except (ValueError, KeyError):
        said = [line for line in err.splitlines() if line.strip()]
        return [f"not audited: no advisories can be had ({said[-1].strip() if said else 'no network'})"], 0
    packages = [each for each in packages if each["name"] != OWN]
    audited = [each for each in packages if "vulns" in each]
    if not audited:
        return [f"not audited: the index has no advisories for any of {len(packages)} packages (a mirror, or no network)"], 0
    found = {(each["name"], each["version"], vuln["id"]): vuln for each in audited for vuln in each["vulns"]}
    open_ = [key for key, vuln in found.items() if not {vuln["id"], *vuln.get("aliases", ())} & set(excused)]
    lines = [
        f"{name} {version}: {advisory}, mended in {_versions(found[name, version, advisory])}"
        for name, version, advisory in open_
    ]
    known = {id_ for vuln in found.values() for id_ in (vuln["id"], *vuln.get("aliases", ()))}
    lines += [f"excused: {id_}: {reason}" for id_, reason in excused.items() if id_ in known]
    lines += [f"no longer needed in [tool.audit.excused]: {id_}" for id_ in excused if id_ not in known]
    without = [each["name"] for each in packages if "vulns" not in each]
    lines += [f"not audited: {', '.join(without)}"] if without else []
    return [*lines, f"{len(audited)} packages audited, {len(open_)} open advisories"], int(bool(open_))


def _versions(advisory: Mapping[str, Any]) -> str:
    return ", ".join(advisory.get("fix_versions") or ()) or "no version yet"


if __name__ == "__main__":
    sys.exit(main())
