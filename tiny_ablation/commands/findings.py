"""Write what finished runs say as a page: strongest heads, confirmation, stability, circuits, robustness.

Give the directories of runs, in the order of the page, and of sweeps that compared ways to intervene. Every number comes from
their files, whose checksums are compared first.

  tiny-ablate findings outputs/heads outputs/circuit --out docs/findings.md
"""

import shlex
from pathlib import Path

from tiny_ablation.commands._console import parser, say_page
from tiny_ablation.store.files import write_text


def main(args: list[str]) -> int:
    """Write or print the page."""
    flags = parser("findings", __doc__)
    flags.add_argument("directories", nargs="+", metavar="DIR", type=Path, help="a finished run, or a sweep")
    flags.add_argument("--out", type=Path, help="the page to write; default: print it")
    given = flags.parse_args(args)
    from tiny_ablation.report.findings import findings_page

    page = findings_page(given.directories, shlex.join(["tiny-ablate", "findings", *args]))
    if given.out:
        write_text(given.out, page)
    else:
        say_page(page)
    return 0
