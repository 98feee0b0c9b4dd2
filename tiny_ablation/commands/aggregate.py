"""Rebuild what a sweep's finished runs say together: matrices, means over seeds, invariants, hypotheses.

  tiny-ablate aggregate multirun/2026-11-21/10-00-00
  tiny-ablate aggregate DIR --json

Reads the runs' files and writes artifacts/cross_condition/, report.html and manifest.json; no model is needed. Equal runs give
equal bytes, however often and from wherever it is called. The exit code is 1 when a planned cell has no results.
"""

from pathlib import Path

from tiny_ablation.commands._console import parser, say_json


def main(args: list[str]) -> int:
    """Aggregate one sweep."""
    from tiny_ablation.report.rebuild import build_sweep

    flags = parser("aggregate", __doc__)
    flags.add_argument("dir", type=Path, metavar="DIR", help="the directory of a sweep (-m)")
    flags.add_argument("--json", action="store_true", help="print the state of every cell and the files as JSON")
    given = flags.parse_args(args)
    outcome = build_sweep(given.dir)
    if given.json:
        cells = [each.told() for each in outcome.cells]
        files = [path.relative_to(given.dir).as_posix() for path in outcome.files]
        say_json({"complete": outcome.complete, "cells": cells, "warnings": list(outcome.warnings), "files": files})
    else:
        from tiny_ablation.report.sweep_screen import show_sweep
        from tiny_ablation.report.terminal import Screen

        show_sweep(given.dir, Screen())
    return 0 if outcome.complete else 1
