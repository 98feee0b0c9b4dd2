"""The plan of a sweep: every cell composed and checked before the first one runs."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any, NamedTuple

from tiny_ablation.ablations.registry import run_spec
from tiny_ablation.config.composition import forget_compositions
from tiny_ablation.config.identity import CODE, hash_json
from tiny_ablation.config.refusals import explain, is_refusal
from tiny_ablation.config.settings import Settings, to_settings
from tiny_ablation.errors import ConfigError, ModelError, UserError
from tiny_ablation.models.identity import weights_id
from tiny_ablation.run.spec import RunSpec, metric_names_of, share_corpora
from tiny_ablation.store.sweepdir import Cell, SweepPlan
from tiny_ablation.sweep.analysis.declared import check_against_plan


@dataclass(frozen=True)
class Planned:
    """A sweep that can start."""

    plan: SweepPlan  # what is written down
    specs: Sequence[RunSpec]  # of each cell, made without its model


def plan_sweep(config: Any) -> Planned:
    """Every cell composed and checked, from the config that Hydra composed for the sweep as a whole.

    Raises:
        UserError: a cell cannot run, or two cells are the same; the message names them.
    """
    grid = _jobs(config)
    if not grid:
        raise ConfigError("the sweep has no jobs: one of its keys has no value")
    overrides = [job.overrides for job in grid]
    models = tuple(sorted({job.model for job in grid}))
    load, specs, cells = share_corpora(), [], []
    for number, (job, label) in enumerate(zip(grid, labels(overrides), strict=True)):
        try:
            spec = run_spec(adapt(job.cfg, condition=label, models=models), load)
        except UserError as error:
            where = f"job {number + 1} of {len(grid)} ({' '.join(job.overrides)})"
            raise type(error)(f"{where}: {error}") from error
        if ".." in PurePath(job.dir).parts or PurePath(job.dir).is_absolute():
            raise ConfigError(f"hydra.sweep.subdir={job.dir}: it must stay inside the sweep's directory")
        specs.append(spec)
        cells.append(Cell(number, job.dir, spec.condition, spec.settings.root.seed, job.overrides))
    _refuse_twins(cells)
    levels = sorted({spec.settings.root.stats.confidence for spec in specs})
    if len(levels) > 1:  # a table over several runs has one column of intervals
        raise ConfigError(
            f"stats.confidence={','.join(map(str, levels))}: the intervals of a sweep have one level; make a sweep for each"
        )
    settings = specs[0].settings.plain["sweep"]
    metrics = dict.fromkeys(name for spec in specs for name in metric_names_of(spec.settings.root))
    check_against_plan(settings, dict.fromkeys(cell.condition for cell in cells), metrics)
    # Hypotheses are declared before the sweep, so another list of them is another sweep.
    digest = hash_json(
        [[cell.condition, cell.dir, spec.settings.defining] for cell, spec in zip(cells, specs, strict=True)]
        + [settings["hypotheses"]]
    )
    return Planned(SweepPlan(digest, tuple(varying(overrides)), tuple(cells), settings, models), specs)


class _Job(NamedTuple):
    """One job before it runs."""

    overrides: tuple[str, ...]  # `key=value`, one for each key that was given
    cfg: Any  # its config, without the node `hydra`
    dir: str  # where it will write, relative to the sweep's directory
    model: str  # the option of the group `model`


def _jobs(config: Any) -> list[_Job]:
    """All jobs in Hydra's order, composed as its launchers will compose them; about a hundredth of a second each.

    Only of grids: a sweeper that chooses its next point by the results of others has no plan to check or to resume.
    """
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from omegaconf import open_dict

    forget_compositions()
    sweeper, loader = config.hydra.sweeper, GlobalHydra.instance().config_loader()
    if not str(sweeper._target_).endswith("BasicSweeper"):
        raise ConfigError(f"hydra/sweeper: {sweeper._target_} does not run a fixed grid; use hydra/sweeper=basic, the default")
    given = [f"{key}={value}" for key, value in (sweeper.get("params") or {}).items()]
    parsed = OverridesParser.create(config_loader=loader).parse_overrides([*given, *config.hydra.overrides.task])
    (batch,) = BasicSweeper.split_arguments(parsed, None)
    found = []
    for number, overrides in enumerate(batch):
        try:
            cfg: Any = loader.load_sweep_config(config, list(overrides))
        except Exception as error:
            if not is_refusal(error):
                raise
            raise ConfigError(f"cell {number} ({', '.join(overrides)}): {explain(error)}") from error
        with open_dict(cfg):
            cfg.hydra.job.id, cfg.hydra.job.num = f"{cfg.hydra.job.name}_{number}", number
            subdir, model = str(cfg.hydra.sweep.subdir), str(cfg.hydra.runtime.choices.get("model"))
            del cfg.hydra
        found.append(_Job(tuple(overrides), cfg, subdir, model))
    return found


def pin(planned: Planned) -> SweepPlan:
    """The plan with what every run is made of, as it is now: the cells must agree with it until the last is done.

    Reads the weights of local models once (a second for 700 MB). A cell whose model cannot be had has no digest.
    """
    cells, shared = [], {}
    for cell, spec, found in zip(planned.plan.cells, planned.specs, weights_of(planned.specs), strict=True):
        run = spec.identity(*(found or ["unknown"]))
        shared = {name: run.covers[name] for name in CODE}
        own = {name: value for name, value in run.covers.items() if name not in (*CODE, "config")}
        if found is None:
            del own["weights"]
        cells.append(replace(cell, digest=run.digest if found else "", content=own))
    return replace(planned.plan, cells=tuple(cells), content=shared)


def weights_of(specs: Sequence[RunSpec]) -> list[list[str] | None]:
    """What identifies the weights of each run's models; None where they cannot be had. Each model is read once."""
    found: dict[str, str | None] = {}
    for model in {repr(model): model for spec in specs for model in spec.models}.values():
        try:
            found[repr(model)] = weights_id(model)
        except ModelError:  # the user was told that its cells will fail
            found[repr(model)] = None
    ids = [[found[repr(model)] for model in spec.models] for spec in specs]
    return [None if None in of_run else [each for each in of_run if each] for of_run in ids]


def adapt(
    cfg: Any, *, condition: str | None, models: Sequence[str], gpu: int | None = None, also: Sequence[str] = ()
) -> Settings:
    """The settings of one job: its config, which is changed, and what only the sweep as a whole knows.

    Args:
        cfg: the job's config, with or without the node `hydra`.
        condition: the label to use where the config has none.
        models: what `dataset.common_rows=true` means.
        gpu: the `device.index` to use where the config has none; of the machine, so it is not written down.
        also: sites that the screenings of other cells chose.
    """
    from omegaconf import open_dict

    with open_dict(cfg):
        cfg.pop("hydra", None)
        cfg.condition = cfg.condition or condition
        if cfg.dataset.common_rows is True:
            cfg.dataset.common_rows = list(models)
        if also:
            cfg.ablation.screen_also = [*(cfg.ablation.screen_also or ()), *also]
    settings = to_settings(cfg)
    if settings.root.device.index is None:
        settings.root.device.index = gpu
    return settings


def _refuse_twins(cells: Sequence[Cell]) -> None:
    """Two cells of one label and seed are indistinguishable in any table; two in one directory overwrite each other."""
    same: dict[str, list[Cell]] = {}
    for cell in cells:
        same.setdefault(f"condition {cell.condition} with seed {cell.seed}", []).append(cell)
    for cell in cells:
        same.setdefault(f"in the directory {cell.dir}", []).append(cell)
    for what, twins in same.items():
        if len(twins) > 1:
            listed = "; ".join(" ".join(cell.overrides) for cell in twins)
            raise ConfigError(
                f"{len(twins)} jobs are {what} ({listed}); give no value twice, and leave condition and hydra.sweep.subdir to "
                "the tool, or let them differ"
            )


_FIRST = ("model", "dataset", "ablation")


def varying(overrides: Sequence[Sequence[str]]) -> list[str]:
    """The keys that differ between jobs, `seed` included: model, dataset and ablation first, then as they were given.

    The overrides of every job are `key=value` each.
    """
    values: dict[str, set[str]] = {}
    for job in overrides:
        for key, value in map(_split, job):
            values.setdefault(key, set()).add(value)
    differ = [key for key, found in values.items() if len(found) > 1]
    return sorted(differ, key=lambda key: _FIRST.index(key) if key in _FIRST else len(_FIRST))


def labels(overrides: Sequence[Sequence[str]]) -> list[str | None]:
    """The label of each job's condition, such as `facts`, or `gpt2/facts` when models vary too.

    An option of a group is called by its name, a single key by `key=value` without its group. What would not do in a label (a
    path, a colon) is replaced by underscores. None for every job where nothing but the seed varies.
    """
    keys = [key for key in varying(overrides) if key != "seed"]
    found = []
    for job in overrides:
        values, parts = dict(map(_split, job)), []
        for key in keys:
            value = re.sub(r"[^\w.,=+\[\]-]|\.\.", "_", values.get(key, "default"))
            parts.append(f"{key.partition('.')[2]}={value}" if "." in key else value)
        found.append("/".join(parts) or None)
    return found


def _split(override: str) -> tuple[str, str]:
    """The key of an override, of an option put at a place of its own (`model@ablation.tuned`) that place, and its value."""
    key, _, value = override.lstrip("+~").partition("=")
    group, _, package = key.partition("@")
    return package or group, value.strip("'\"")
