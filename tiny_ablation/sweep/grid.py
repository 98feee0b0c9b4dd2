"""The jobs of a sweep, composed exactly as Hydra's launchers will compose them.

Costs about a hundredth of a second a job, as much as Hydra's own check of them. Only grids: a sweeper that chooses its next
point by the results of others has no plan to check or to resume.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tiny_ablation.config.composition import forget_compositions
from tiny_ablation.config.refusals import explain, is_refusal
from tiny_ablation.errors import ConfigError


@dataclass(frozen=True)
class Job:
    """One job before it runs.

    Attributes:
        number: from 0, in Hydra's order.
        overrides: `key=value`, one for each key that was given.
        cfg: its config, without the node `hydra`.
        dir: where it will write, relative to the sweep's directory.
        model: the option of the group `model`.
    """

    number: int
    overrides: tuple[str, ...]
    cfg: Any
    dir: str
    model: str


def jobs(config: Any) -> list[Job]:
    """All jobs of a sweep.

    Args:
        config: the config that Hydra composed for the sweep as a whole, in which nothing that is swept is applied.

    Raises:
        ConfigError: the sweeper is not Hydra's grid.
    """
    forget_compositions()
    return [_job(config, number, overrides) for number, overrides in enumerate(_expand(config))]


def _expand(config: Any) -> Iterator[Sequence[str]]:
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser

    sweeper = config.hydra.sweeper
    if not str(sweeper._target_).endswith("BasicSweeper"):
        raise ConfigError(f"hydra/sweeper: {sweeper._target_} does not run a fixed grid; use hydra/sweeper=basic, the default")
    given = [f"{key}={value}" for key, value in (sweeper.get("params") or {}).items()]
    parsed = OverridesParser.create(config_loader=_loader()).parse_overrides([*given, *config.hydra.overrides.task])
    (batch,) = BasicSweeper.split_arguments(parsed, None)
    yield from batch


def _job(config: Any, number: int, overrides: Sequence[str]) -> Job:
    from omegaconf import open_dict

    try:
        cfg: Any = _loader().load_sweep_config(config, list(overrides))
    except Exception as error:
        if not is_refusal(error):
            raise
        raise ConfigError(f"cell {number} ({', '.join(overrides)}): {explain(error)}") from error
    with open_dict(cfg):
        cfg.hydra.job.id, cfg.hydra.job.num = f"{cfg.hydra.job.name}_{number}", number
        subdir, model = str(cfg.hydra.sweep.subdir), str(cfg.hydra.runtime.choices.get("model"))
        del cfg.hydra
    return Job(number, tuple(overrides), cfg, subdir, model)


def _loader() -> Any:
    from hydra.core.global_hydra import GlobalHydra

    return GlobalHydra.instance().config_loader()
