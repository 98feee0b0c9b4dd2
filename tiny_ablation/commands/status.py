"""Show the grid of a sweep: done, running, failed, missing.

  tiny-ablate status multirun/2026-11-21/10-00-00
  tiny-ablate status DIR --json

Reads files only, so it can be asked while the sweep runs. The exit code is 1 when a cell has failed.
"""

from pathlib import Path

from tiny_ablation.commands._console import parser, say, say_json, table
from tiny_ablation.sweep.state import sweep_status


def main(args: list[str]) -> int:
    """Print the grid."""
    flags = parser("status", __doc__)
    flags.add_argument("dir", type=Path, help="the directory of a sweep")
    flags.add_argument("--json", action="store_true", help="print every cell as JSON")
    given = flags.parse_args(args)
    states = sweep_status(given.dir)
    if given.json:
        say_json([state.told() for state in states])
    else:
        seeds = sorted({s.cell.seed for s in states})
        found = {(s.cell.condition, s.cell.seed): s.state for s in states}
        rows = [["condition", *(f"seed {seed}" for seed in seeds)]]
        for condition in dict.fromkeys(s.cell.condition for s in states):
            rows.append([condition, *(found.get((condition, seed), "-") for seed in seeds)])
        done = sum(s.state == "ok" for s in states)
        say(*table(rows), "", f"  {done} of {len(states)} cells are done")
        say(*(f"  {s.cell.condition}, seed {s.cell.seed}: {s.error}" for s in states if s.error))
    return int(any(s.state == "failed" for s in states))
