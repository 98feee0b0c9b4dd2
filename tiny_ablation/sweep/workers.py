"""How many processes share this machine, for `hydra/launcher=local`."""

import os

_CORES_A_PROCESS = 4  # the matrix products of a small model fill two or three
_BYTES_A_PROCESS = 3 * 2**30  # Python, libraries, a small model and its batches


def n_workers() -> int:
    """About one process for four cores, and no more than the free memory holds; at least one."""
    import psutil

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores // _CORES_A_PROCESS, psutil.virtual_memory().available // _BYTES_A_PROCESS))


def register_resolver() -> None:
    """Let configs say `${workers:}`; it is only worked out by the launcher that asks."""
    from omegaconf import OmegaConf

    OmegaConf.register_new_resolver("workers", n_workers, use_cache=True, replace=True)
