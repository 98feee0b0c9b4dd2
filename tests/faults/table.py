"""The table of docs/reliability.md, from what `make faults` counted.

python -m tests.faults.table outputs/faults docs/reliability.md
"""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

BEGIN, END = "<!-- faults: written by make faults -->", "<!-- faults: end -->"


def main(counts: Path, page: Path) -> None:
    """Put the table into the page."""
    found = [json.loads(path.read_text()) for path in sorted(counts.glob("*.json"))]
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text("\n".join([before + BEGIN, "", *table(found), "", END + after]), encoding="utf-8")


def table(found: list[dict]) -> Iterator[str]:
    """The lines of the table: each fault as it was last counted, so that a part can be counted anew."""
    newest = {name: row for each in found for name, row in each["faults"].items()}
    rows = {name: Counter(newest[name]) for name in sorted(newest)}
    yield "| fault | tries | lost | wrong | clear message |"
    yield "|---|---:|---:|---:|---|"
    for name, row in rows.items():
        said = f"{row['clear']} of {row['asked']}" if row["asked"] else "none needed"
        yield f"| {name} | {row['tries']} | {row['lost']} | {row['wrong']} | {said} |"
    whole = sum(rows.values(), Counter())
    kills = sum(row["tries"] for name, row in rows.items() if name.startswith("kill"))
    said = f"{whole['clear']} of {whole['asked']}"
    yield f"| **all** | **{whole['tries']}** | **{whole['lost']}** | **{whole['wrong']}** | **{said}** |"
    yield ""
    date = max(each["date"] for each in found)
    yield f"Counted on {date[:4]}-{date[4:6]}-{date[6:8]}; {kills} of the tries are kills."


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
