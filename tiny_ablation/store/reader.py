"""Finished runs, read back: checksums first, then each part when it is asked for.

Reading needs no model library: a run can be analysed on a machine that could not have made it.
"""

import io
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiny_ablation.config.yaml_size import check_yaml
from tiny_ablation.errors import ConfigError, ResultsError
from tiny_ablation.store.display import shown
from tiny_ablation.store.files import read_object, read_table
from tiny_ablation.store.manifest import DRAWN, Manifest, check_files, read_manifest
from tiny_ablation.store.rundir import RunDir
from tiny_ablation.store.schema import TABLES
from tiny_ablation.store.untrusted import reading

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, repr=False)
class Run:
    """One run directory that was checked; make it with `load_run`.

    Attributes:
        dir: the names of its files.
        manifest: what it is and how it ended.
    """

    dir: RunDir
    manifest: Manifest

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved config, as plain dictionaries and lists; interpolations stay as they are written."""
        return _read_config(self.dir.config)

    @cached_property
    def summary(self) -> dict[str, Any]:
        """The content of `metrics/summary.json`."""
        return read_object(self.dir.summary)

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

    @cached_property
    def verify(self) -> dict[str, Any] | None:
        """What the verify slice found; None where it was off."""
        return read_object(self.dir.verify) if self.dir.verify.is_file() else None

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """Where the numbers come from: hashes, code, versions, machine, times."""
        return read_object(self.dir.provenance)

    def __repr__(self) -> str:
        return f"<Run {self.manifest.extra.get('kind', '')} {self.manifest.run_id} in {self.dir.path}: {self.manifest.status}>"

    def _repr_html_(self) -> str:
        if not self.dir.summary.is_file():  # it failed before it had results
            return shown(repr(self), {"error": self.manifest.error}, (), ())
        with reading(self.dir.path):
            return self._shown(self.summary)

    def _shown(self, said: dict[str, Any]) -> str:
        primary = said["primary"]
        facts = {"run": said["run_id"], "status": self.manifest.status, "examples": said["n_examples"], "seed": said["seed"],
                 f"baseline {primary}": (said["baseline"].get(primary) or {}).get("mean")}  # fmt: skip
        head = list(said["top"][0]) if said["top"] else []
        title = f"{said['kind']} of {said['model']} on {said['dataset']}: strongest sites by {primary}"
        return shown(title, facts, head, [row.values() for row in said["top"]])


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
    if check:
        check_unaltered(rundir.path)
    return Run(rundir, manifest)


def check_unaltered(path: Path) -> None:
    """Compare every file of a run or sweep with its checksum.

    Raises:
        ResultsError: one is missing or altered; the message names the first few.
    """
    problems = check_files(RunDir(path))
    if problems and all(each.file.startswith(DRAWN) for each in problems):
        raise ResultsError(
            f"{path}: {problems[0]}; `tiny-ablate report {path}` draws figures and page again."
        )
    if problems:
        listed = "; ".join(map(str, problems[:5])) + ("; ..." if len(problems) > 5 else "")
        raise ResultsError(f"{path} is not as its run left it: {listed}. Run again to make it anew.")


def _read_config(path: Path) -> dict[str, Any]:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        text = path.read_text(encoding="utf-8")
        check_yaml(text, path)
        # Never resolved: an interpolation in a stranger's file could read the environment.
        config = OmegaConf.to_container(OmegaConf.load(io.StringIO(text)), resolve=False)
    except FileNotFoundError as error:
        raise ResultsError(f"{path} is missing. Run again to make it anew.") from error
    except (OSError, ValueError, RecursionError, ConfigError, OmegaConfBaseException) as error:
        raise ResultsError(f"Cannot read {path}: {error}") from error
    except Exception as error:  # what the YAML parser raises is not part of OmegaConf's interface
        if type(error).__module__.partition(".")[0] != "yaml":
            raise
        raise ResultsError(f"{path} is damaged: it is not YAML. Run again to make it anew.") from error
    if not isinstance(config, dict):
        raise ResultsError(f"{path} is damaged: it holds no config. Run again to make it anew.")
    return {str(key): value for key, value in config.items()}
