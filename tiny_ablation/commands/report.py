"""Draw the figures and the page of a run or sweep again, from its files.

  tiny-ablate report outputs/2026-11-21/10-00-00 --open
  tiny-ablate report multirun/2026-11-21/10-00-00

No model is needed, and nothing is measured. Equal files give equal figures.
"""

import webbrowser
from pathlib import Path

from tiny_ablation.commands._console import parser, say


def main(args: list[str]) -> int:
    """Rebuild one report."""
    from tiny_ablation.report.rebuild import rebuild

    flags = parser("report", __doc__)
    flags.add_argument("dir", type=Path, metavar="DIR", help="the directory of a run or of a sweep")
    flags.add_argument("--open", action="store_true", help="show the page in the browser")
    given = flags.parse_args(args)
    page = rebuild(given.dir)
    say(str(page))
    if given.open and not webbrowser.open(page.resolve().as_uri()):
        say("No browser was found; open the file above by hand.")
    return 0
