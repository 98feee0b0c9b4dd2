"""Finished runs, read back: checksums first, then each part when it is asked for.

Reading needs no model library: a run can be analysed on a machine that could not have made it.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiny_ablation.errors import ResultsError
from tiny_ablation.results.manifest import Manifest, check_files, read_manifest
from tiny_ablation.results.rundir import RunDir
from tiny_ablation.results.schema import TABLES
from tiny_ablation.results.store import read_json, read_table

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Run:
    """One run directory that was checked; make it with `load_run`."""

    dir: RunDir
    manifest: Manifest

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved config, as plain dictionaries and lists; interpolations stay as they are written."""
        return _read_config(self.dir.config)

    @cached_property
    def summary(self) -> dict[str, Any]:
        """The content of `metrics/summary.json`."""
        return read_json(self.dir.summary)

    @cached_property
    def table_name(self) -> str:
        """Which impact table the run wrote: a key of `TABLES`."""
        for name in TABLES:
            if self.dir.table(name).is_file():
                return name
        raise ResultsError(f"{self.dir.metrics} holds no impact table; the run is {self.manifest.status}.")

    @cached_property
    def impact(self) -> "pd.DataFrame":
        """The impact table: a row per site and metric, columns as in `TABLES[run.table_name]`."""
        table = read_table(self.dir.table(self.table_name))
        if missing := [name for name in TABLES[self.table_name].columns if name not in table.columns]:
            raise ResultsError(f"{self.dir.table(self.table_name)} has no column {missing[0]!r}. Run again.")
        return table

    @cached_property
    def per_example(self) -> "pd.DataFrame":
        """The per-example table: a row per site and example, columns as in `Table.example_columns`."""
        return read_table(self.dir.per_example)


def load_run(path: Path | str, *, check: bool = True) -> Run:
    """The run in the directory `path`.

    Args:
        path: a run directory.
        check: compare every file with its checksum first (reads them all once).

    Raises:
        ResultsError: there is no run, or a file of it is missing or altered.
    """
    rundir = RunDir(Path(path))
    manifest = read_manifest(rundir.path)
    if check and (problems := check_files(rundir)):
        listed = "; ".join(map(str, problems[:5])) + ("; ..." if len(problems) > 5 else "")
        raise ResultsError(f"{rundir.path} is not as its run left it: {listed}. Run again to make it anew.")
    return Run(rundir, manifest)


def _read_config(path: Path) -> dict[str, Any]:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        # Never resolved: an interpolation in a stranger's file could read the environment.
        config = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except FileNotFoundError as error:
        raise ResultsError(f"{path} is missing. Run again to make it anew.") from error
    except (OSError, ValueError, OmegaConfBaseException) as error:
        raise ResultsError(f"Cannot read {path}: {error}") from error
    except Exception as error:  # what the YAML parser raises is not part of OmegaConf's interface
        if type(error).__module__.partition(".")[0] != "yaml":
            raise
        raise ResultsError(f"{path} is damaged: it is not YAML. Run again to make it anew.") from error
    if not isinstance(config, dict):
        raise ResultsError(f"{path} is damaged: it holds no config. Run again to make it anew.")
    return {str(key): value for key, value in config.items()}
