"""Results of strangers: runs, sweeps, manifests and unfinished batches whose checksums fit, with anything in them."""

from pathlib import Path

from tests.fuzz import surfaces, targets
from tests.fuzz.alter import Draws, altered
from tests.properties.cases import cases

test_runs = cases(20, 500)(targets.run_directory)
test_manifests = cases(30, 500)(targets.manifest)
test_sweeps = cases(6, 240)(targets.sweep_directory)
test_batches = cases(60, 1000)(targets.batches)


def _drawn_again(place: Path, draws: Draws) -> None:
    """The whole of `tiny-ablate report`, figures included."""
    names = ["metrics/summary.json", "metrics/head_impact.parquet", "metrics/per_example.parquet", "metrics/profile.json"]
    surfaces.run_directory(place, altered(draws, surfaces.seeds("run"), names), figures=True)


def _sweep_drawn_again(place: Path, draws: Draws) -> None:
    """The same for a sweep."""
    names = [name for name in surfaces.seeds("sweep") if name.endswith(("summary.json", "impact.parquet", "sweep.json"))]
    surfaces.sweep_directory(place, altered(draws, surfaces.seeds("sweep"), names), figures=True)


test_figures = cases(1, 40, seconds=120)(_drawn_again)
test_figures_of_sweeps = cases(1, 20, seconds=120)(_sweep_drawn_again)
