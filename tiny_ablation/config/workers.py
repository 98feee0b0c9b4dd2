"""Which cell of a sweep a job works on, and what its log is called, where several jobs work on one run (`run.shards`)."""

from typing import Any


def cell_number(job: int, cfg: Any) -> int:
    """The cell that a job of a sweep works on: `run.shards` jobs in a row work on one.

    Args:
        job: its number.
        cfg: its config; `run.shard` is only set in that of a job that is one of several of its cell.
    """
    return job if cfg.run.shard is None else job // cfg.run.shards


def register_resolvers() -> None:
    """Let configs say `${cell:}` and `${log_name:}`."""
    from omegaconf import OmegaConf

    def cell(*, _root_: Any) -> int:
        return cell_number(_root_.hydra.job.num, _root_)

    def log_name(*, _root_: Any) -> str:
        return "run.log" if _root_.run.shard is None else f"run-{_root_.run.shard}.log"

    OmegaConf.register_new_resolver("cell", cell, replace=True)
    OmegaConf.register_new_resolver("log_name", log_name, replace=True)
