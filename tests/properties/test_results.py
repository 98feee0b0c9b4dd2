"""Results of strangers: runs, sweeps, manifests and unfinished batches whose checksums fit, with anything in them."""

from pathlib import Path

from tests.fuzz import surfaces, targets
from tests.fuzz.alter import Draws, altered
from tests.properties.cases import cases

test_runs = cases(20, 800)(targets.run_directory)
test_manifests = cases(30, 800)(targets.manifest)
test_sweeps = cases(10, 500)(targets.sweep_directory)
test_batches = cases(60, 500)(targets.batches)


def _drawn_again(place: Path, draws: Draws) -> None:
    """The whole of `tiny-ablate report`, figures included."""
    names = [
        "metrics/summary.json",
        "metrics/head_impact.parquet",
        "metrics/per_example.parquet",
        "metrics/profile.json",
    ]
    surfaces.run_directory(place, altered(draws, surfaces.seeds("run"), names), figures=True)


test_figures = cases(1, 100, seconds=120)(_drawn_again)
