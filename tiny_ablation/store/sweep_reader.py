"""Finished sweeps, read back: the matrices, what is conserved, and every run of it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiny_ablation.errors import ResultsError
from tiny_ablation.store.files import read_object, read_table
from tiny_ablation.store.manifest import Manifest, read_manifest
from tiny_ablation.store.reader import Run, as_html, check_unaltered, load_run
from tiny_ablation.store.sweepdir import SweepDir, SweepPlan, finished, read_plan
from tiny_ablation.store.untrusted import reading

if TYPE_CHECKING:
    import pandas as pd

_MATRIX, _MEANS = "_matrix.parquet", "_means.parquet"


@dataclass(frozen=True, repr=False)
class Sweep:
    """One sweep directory that was checked; make it with `load_sweep`.

    Attributes:
        dir: the names of its files.
        plan: what was planned.
        manifest: what it is; `manifest.status` is `ok` where every planned run has results.
    """

    dir: SweepDir
    plan: SweepPlan
    manifest: Manifest
    _checked: bool = field(default=True)

    @cached_property
    def summary(self) -> dict[str, Any]:
        """Per condition the metrics over seeds, and what became of every planned run."""
        return read_object(self.dir.summary)

    @cached_property
    def invariants(self) -> dict[str, Any]:
        """What conditions have in common: `heads`, `layers`, and `sets` with chance, agreement and stability."""
        return read_object(self.dir.cross / "invariants.json")

    @cached_property
    def hypotheses(self) -> dict[str, Any]:
        """The declared hypotheses with their p- and q-values."""
        return read_object(self.dir.cross / "hypotheses.json")

    @cached_property
    def geometry(self) -> dict[str, Any]:
        """Correlations of metrics, distances and principal components of conditions."""
        return read_object(self.dir.cross / "geometry.json")

    @property
    def conditions(self) -> list[str]:
        """The labels, in the order of the plan."""
        return self.plan.conditions

    @cached_property
    def tables(self) -> list[str]:
        """What `matrix` and `means` can be asked for, such as `head` and `layer`."""
        return sorted(path.name.removesuffix(_MATRIX) for path in self.dir.cross.glob(f"*{_MATRIX}"))

    def matrix(self, table: str | None = None) -> "pd.DataFrame":
        """Every impact row of every run, with its condition and seed.

        Args:
            table: one of `tables`; None where there is one only.

        Raises:
            ResultsError: there is no such table, or several to choose from.
        """
        return read_table(self.dir.cross / f"{self._table(table)}{_MATRIX}")

    def means(self, table: str | None = None) -> "pd.DataFrame":
        """The mean over seeds per condition, direction, metric and site, with its interval; arguments as for `matrix`."""
        return read_table(self.dir.cross / f"{self._table(table)}{_MEANS}")

    def run(self, condition: str, seed: int) -> Run:
        """One run of the sweep.

        Raises:
            ResultsError: there is none, or its files are missing or altered.
        """
        for cell in self.plan.cells:
            if (cell.condition, cell.seed) == (condition, seed):
                return load_run(self.dir.run(cell).path, check=self._checked)
        seeds = sorted({cell.seed for cell in self.plan.cells})
        raise ResultsError(
            f"{self.dir.path} has no run of {condition}, seed {seed}; there are {', '.join(self.conditions)}, seeds {seeds}"
        )

    def runs(self) -> Iterator[Run]:
        """The finished runs, in the order of the plan; each is read when its turn comes."""
        with reading(self.dir.path):
            cells = [*finished(self.plan, self.summary)]
        for cell in cells:  # its directories were checked to stay inside the sweep's
            yield load_run(self.dir.run(cell).path, check=self._checked)

    def _table(self, table: str | None) -> str:
        if table in self.tables or (table is None and len(self.tables) == 1):
            return table or self.tables[0]
        asked = "say which table" if table is None else f"there is no table {table!r}"
        raise ResultsError(f"{self.dir.cross}: {asked}; there are {', '.join(self.tables) or 'none'}")

    def __repr__(self) -> str:
        counts = self.summary["counts"]
        return f"<Sweep {self.dir.path}: {counts.get('ok', 0)} of {len(self.plan.cells)} runs, {', '.join(self.conditions)}>"

    def _repr_html_(self) -> str:
        with reading(self.dir.path):
            done = f"{self.summary['counts'].get('ok', 0)} of {len(self.plan.cells)}"
            facts = {"runs": done, "status": self.manifest.status, "k": self.invariants["k"], "op": self.invariants["op"]}
            rows = [
                (
                    found["table"].removesuffix("_impact"),
                    found["model"],
                    found["metric"],
                    f"{found['size']} of {found['n_components']}",
                    (found["agreement"] or {}).get("kendalls_w"),
                )
                for found in self.invariants["sets"]
            ]
            head = ("table", "model", "metric", "invariant", "Kendall's W")
            return as_html(f"Sweep over {', '.join(self.conditions)}", facts, head, rows)


def load_sweep(path: Path | str, *, check: bool = True) -> Sweep:
    """The sweep in the directory `path`.

    Args:
        path: the directory that `-m` made.
        check: compare every file with its checksum first: the sweep's own now, a run's when it is read.

    Raises:
        ResultsError: there is no aggregated sweep, or a file of it is missing or altered.
    """
    sweep = SweepDir(Path(path))
    plan = read_plan(sweep.path)
    if not sweep.summary.is_file() or not sweep.manifest.is_file():
        raise ResultsError(f"{sweep.path} has no results yet: say `tiny-ablate aggregate {sweep.path}` first.")
    manifest = read_manifest(sweep.path)
    if check:
        check_unaltered(sweep.path)
    return Sweep(sweep, plan, manifest, check)
