"""Finished runs, read back: checksums first, then each part when it is asked for.

Reading needs no model library: a run can be analysed on a machine that could not have made it.
"""

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiny_ablation.config.yaml_size import check_yaml
from tiny_ablation.errors import ConfigError, ResultsError, did_you_mean
from tiny_ablation.store.files import read_object, read_table
from tiny_ablation.store.manifest import DRAWN, Manifest, check_files, read_manifest
from tiny_ablation.store.rundir import RunDir
from tiny_ablation.store.schema import EXAMPLE_TEXTS, TABLES, example_effects, largest_first
from tiny_ablation.store.untrusted import reading

if TYPE_CHECKING:
    import pandas as pd


# What `Run.top` shows of each effect.
_SHOWN = ("replacement", "delta", "shrunken", "ci_low", "ci_high", "p_value", "q_value", "value", "baseline")
_NOTHING = 1e-12  # a shrunken effect below this is shown as 0


@dataclass(frozen=True)
class Picture:
    """A figure on the disk that shows itself in a notebook."""

    path: Path  # the PNG; an interactive page of the same name stands beside it

    def _repr_png_(self) -> bytes:
        return self.path.read_bytes()


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
        from omegaconf import OmegaConf
        from omegaconf.errors import OmegaConfBaseException

        path = self.dir.config
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

    def top(self, n: int = 10, metric: str | None = None) -> "pd.DataFrame":
        """The rows of the `n` largest effects on a metric, the primary one by default: site, change, interval and q-value."""
        rows: Any = self._rows(metric)
        return largest_first(rows)[[*TABLES[self.table_name].index, *_SHOWN]].head(n)

    @property
    def over_heads(self) -> bool:
        """Whether whole heads were measured one by one."""
        return self.table_name == "head_impact" and set(self.impact["component"]) == {"z"}

    def matrix(self, metric: str | None = None, *, value: str = "delta", scale: float | None = None) -> "pd.DataFrame":
        """Layers by heads: one column of the impact table, at one factor, the lowest by default.

        Raises:
            ResultsError: the run's sites are not heads.
        """
        if self.table_name != "head_impact":
            raise ResultsError(f"a {self.table_name} has no heads to make a matrix of; see run.impact")
        rows: Any = self._rows(metric)
        rows = rows[rows["scale"] == (rows["scale"].min() if scale is None else scale)]
        return rows.pivot(index="layer", columns="head", values=value)

    def examples(self, site: str | None = None, metric: str | None = None, **where: Any) -> "pd.DataFrame":
        """What an intervention did to every prompt, the largest change first, with the prompt's text.

        Args:
            site: a head such as `L23H3`; or its columns, as `where`.
            metric: the primary one by default.
            **where: values of columns of the per-example table, such as `layer=4, granularity="mlp_out"` or `scale=0`.

        Returns:
            A row per intervention and example: the site's columns, `example_id, clean, target, foil`, the metric before and
            after, `delta`, the most probable next token before and after, and with metrics of text what was written.

        Raises:
            ResultsError: the run has no such site.
        """
        name = metric or self.summary["primary"]
        if site is not None:
            found = re.fullmatch(r"L(\d+)H(\d+)", site)
            if not found:
                raise ResultsError(f"{site!r} is not a head; write L23H3, or name columns: layer=4, granularity='mlp_out'")
            where |= {"layer": int(found[1]), "head": int(found[2])}
        rows: Any = self.per_example
        for column, value in where.items():
            if column not in rows.columns:
                raise ResultsError(f"{self.dir.per_example} has no column {column!r}; there are {', '.join(rows.columns)}")
            rows = rows[rows[column] == value]
        if rows.empty:
            raise ResultsError(f"the run measured nothing at {site or where}")
        columns = [*TABLES[self.table_name].index, "example_id", "clean", "target", "foil"]
        columns += [f"{name}_baseline", name, "delta", "prediction_baseline", "prediction"]
        columns += [column for column in EXAMPLE_TEXTS if column in rows]
        return by_change(rows, texts_of(self.provenance), name)[columns]

    def figure(self, name: str) -> "Picture":
        """A figure of the run, which a notebook shows, such as `head_map`.

        Raises:
            ResultsError: there is no such figure.
        """
        found = {path.stem: path for path in sorted(self.dir.artifacts.glob("*.png"))}
        if name not in found:
            raise ResultsError(f"there is no figure {name}{did_you_mean(name, found)}; there are {', '.join(found)}")
        return Picture(found[name])

    def _rows(self, metric: str | None) -> "pd.DataFrame":
        name = metric or self.summary["primary"]
        rows: Any = self.impact[self.impact["metric"] == name]
        if rows.empty:
            names = sorted(self.impact["metric"].unique())
            raise ResultsError(f"the run has no metric {name}{did_you_mean(name, names)}; there are {', '.join(names)}")
        return rows

    def __repr__(self) -> str:
        return f"<Run {self.manifest.extra.get('kind', '')} {self.manifest.run_id} in {self.dir.path}: {self.manifest.status}>"

    def _repr_html_(self) -> str:
        if not self.dir.summary.is_file():  # it failed before it had results
            return as_html(repr(self), {"error": self.manifest.error}, (), ())
        with reading(self.dir.path):
            said = self.summary
            primary = said["primary"]
            facts = {
                "run": said["run_id"],
                "status": self.manifest.status,
                "examples": said["n_examples"],
                "seed": said["seed"],
                f"baseline {primary}": (said["baseline"].get(primary) or {}).get("mean"),
            }
            head = list(said["top"][0]) if said["top"] else []
            title = f"{said['kind']} of {said['model']} on {said['dataset']}: strongest sites by {primary}"
            return as_html(title, facts, head, [row.values() for row in said["top"]])


def as_html(title: str, facts: Mapping[str, Any], head: Sequence[str], rows: Iterable[Iterable[Any]]) -> str:
    """HTML of a heading, a line of facts and a table, for a notebook; numbers have four significant digits."""

    def text(value: Any, column: str) -> str:
        if value is None:
            return "-"
        if column == "shrunken" and isinstance(value, float) and abs(value) < _NOTHING:
            return "0"
        return escape(f"{value:.4g}" if isinstance(value, float) else str(value))

    line = " · ".join(f"{escape(name)} <b>{text(value, name)}</b>" for name, value in facts.items())
    header = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(
        f"<tr>{''.join(f'<td>{text(value, name)}</td>' for name, value in zip(head, row, strict=True))}</tr>" for row in rows
    )
    return (
        f"<div><strong>{escape(title)}</strong><br>{line}"
        f"<table><thead><tr>{header}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def texts_of(provenance: Mapping[str, Any]) -> dict[str, Mapping[str, str]]:
    """The clean and corrupt prompt, target and foil of each example, by its id; earlier versions kept none."""
    return {each["id"]: each["text"] for each in provenance.get("prompts") or () if "text" in each}


def by_change(rows: Any, texts: Mapping[str, Mapping[str, str]], metric: str) -> Any:
    """Rows of the per-example table, the largest change in the metric first, with `delta` and the text of each prompt."""
    rows = rows.assign(delta=example_effects(rows, metric))
    for part in ("clean", "target", "foil"):
        rows[part] = [texts.get(each, {}).get(part) for each in rows["example_id"]]
    return largest_first(rows)


def effects_by_example(rows: "pd.DataFrame", metric: str, site: Sequence[str]) -> "pd.DataFrame":
    """(sites, examples) the effects in rows of a per-example table; `site` are the columns that name a site."""
    rows = rows.assign(delta=example_effects(rows, metric))
    return rows.pivot_table(index=list(site), columns="example_id", values="delta", aggfunc="mean")


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
        raise ResultsError(f"{path}: {problems[0]}; `tiny-ablate report {path}` draws figures and page again.")
    if problems:
        listed = "; ".join(map(str, problems[:5])) + ("; ..." if len(problems) > 5 else "")
        raise ResultsError(f"{path} is not as its run left it: {listed}. Run again to make it anew.")
