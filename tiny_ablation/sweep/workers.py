"""How many processes share this machine, for `hydra/launcher=local`, and which cell of a sweep a job works on."""

from typing import Any

_CORES_A_PROCESS = 4  # the matrix products of a small model fill two or three
_BYTES_A_PROCESS = 3 * 2**30  # Python, libraries, a small model and its batches


def n_workers() -> int:
    """About one process for four cores, and no more than the free memory holds; at least one."""
    import os

    import psutil

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores // _CORES_A_PROCESS, psutil.virtual_memory().available // _BYTES_A_PROCESS))


def cell_number(job: int, cfg: Any) -> int:
    """The cell that a job of a sweep works on: `run.shards` jobs in a row work on one.

    Args:
        job: its number.
        cfg: its config; `run.shard` is only set in that of a job that is one of several of its cell.
    """
    return job if cfg.run.shard is None else job // cfg.run.shards


def register_resolvers() -> None:
    """Let configs say `${workers:}`, which is only worked out by the launcher that asks, and `${cell:}` and `${log_name:}`."""
    from omegaconf import OmegaConf

    def cell(*, _root_: Any) -> int:
        return cell_number(_root_.hydra.job.num, _root_)

    def log_name(*, _root_: Any) -> str:
        return "run.log" if _root_.run.shard is None else f"run-{_root_.run.shard}.log"

    OmegaConf.register_new_resolver("cell", cell, replace=True)
    OmegaConf.register_new_resolver("log_name", log_name, replace=True)
    OmegaConf.register_new_resolver("workers", n_workers, use_cache=True, replace=True)
