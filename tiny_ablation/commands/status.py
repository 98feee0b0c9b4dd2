"""Show the grid of a sweep: done, running, failed, missing.

  tiny-ablate status multirun/2026-11-21/10-00-00
  tiny-ablate status DIR --json

Reads files only, so it can be asked while the sweep runs. The exit code is 1 when a cell has failed.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from tiny_ablation.commands._console import parser, say, say_json, table
from tiny_ablation.store.sweepdir import CellState
from tiny_ablation.sweep.job import sweep_status


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
        say(*grid_lines(states))
    return int(any(s.state == "failed" for s in states))


def grid_lines(states: Sequence[CellState]) -> Iterator[str]:
    """The grid, a line per condition and a column per seed, then why cells failed."""
    seeds = sorted({s.cell.seed for s in states})
    found = {(s.cell.condition, s.cell.seed): s.state for s in states}
    conditions = list(dict.fromkeys(s.cell.condition for s in states))
    rows = [["condition", *(f"seed {seed}" for seed in seeds)]]
    rows += [[condition, *(found.get((condition, seed), "-") for seed in seeds)] for condition in conditions]
    yield from table(rows)
    done = sum(s.state == "ok" for s in states)
    yield ""
    yield f"  {done} of {len(states)} cells are done"
    for state in states:
        if state.error:
            yield f"  {state.cell.condition}, seed {state.cell.seed}: {state.error}"
