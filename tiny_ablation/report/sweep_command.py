"""The command that runs a sweep again, from the plan of its cells."""

import itertools
import shlex

from tiny_ablation.store.sweepdir import SweepPlan


def sweep_command(plan: SweepPlan) -> str | None:
    """One line whose grid is the plan's cells; None where no grid is (the cells' own overrides say it then)."""
    choices: dict[str, dict[str, None]] = {}
    for cell in plan.cells:
        for override in cell.overrides:
            key, _, value = override.partition("=")
            choices.setdefault(key, {})[value] = None
    cells = {tuple(sorted(cell.overrides)) for cell in plan.cells}
    grid = itertools.product(*([f"{key}={value}" for value in values] for key, values in choices.items()))
    # A grid that is far larger than the plan is none of it, and need not be walked to the end.
    product = {tuple(sorted(each)) for each in itertools.islice(grid, len(cells) + 1)}
    if not cells or product != cells:
        return None
    return shlex.join(
        ["tiny-ablate", "-m", *(f"{key}={','.join(values)}" for key, values in choices.items())]
    )
