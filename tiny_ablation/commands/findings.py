"""Write what finished runs say as a page: strongest heads, confirmation, stability, circuits, robustness.

Give the directories of runs, in the order of the page, and of sweeps that compared ways to intervene. Every number comes from
their files, whose checksums are compared first.

  tiny-ablate findings outputs/heads outputs/circuit --out docs/findings.md
"""

import shlex
from pathlib import Path

from tiny_ablation.commands._console import add_out, parser, write_or_say


def main(args: list[str]) -> int:
    """Write or print the page."""
    flags = parser("findings", __doc__)
    flags.add_argument("directories", nargs="+", metavar="DIR", type=Path, help="a finished run, or a sweep")
    add_out(flags)
    given = flags.parse_args(args)
    from tiny_ablation.report.findings import findings_page

    page = findings_page(given.directories, shlex.join(["tiny-ablate", "findings", *args]))
    write_or_say(page, given.out)
    return 0
