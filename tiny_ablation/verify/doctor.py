"""What this machine has and how exactly it computes: the facts and the probe behind `tiny-ablate doctor`.

Works without all of the tool's dependencies: what cannot be imported is reported, not raised. User and host names are left out.
"""

import importlib.metadata
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tiny_ablation.config.model_options import model_option, options
from tiny_ablation.config.schema import ModelSource, VerifyMode
from tiny_ablation.config.settings import Settings
from tiny_ablation.errors import ConfigError, DataError, TinyAblateError
from tiny_ablation.paths import cache_dir
from tiny_ablation.store import provenance

_DISTRIBUTION = "tiny-ablation"


def machine() -> dict[str, Any]:
    """System, processor, memory and threads; as much of it as can be found out."""
    found: dict[str, Any] = {"python": platform.python_version(), "platform": platform.platform()}
    try:
        import psutil

        found |= provenance.machine() | {"free_bytes": psutil.virtual_memory().available}
    except ImportError:
        found["cores"] = os.cpu_count()
    try:
        import torch

        found["threads"] = torch.get_num_threads()
    except ImportError:
        found["threads"] = None
    return found | {"omp_num_threads": os.environ.get("OMP_NUM_THREADS")}


def devices() -> list[dict[str, Any]]:
    """Each kind of device: whether it is there, what it is, whether `auto` takes it, and why it must not be used if so."""
    try:
        import torch
    except ImportError:
        return []
    from tiny_ablation.models.device import known_bad, present

    there = present()
    bad = {name: known_bad(name) for name, is_there in there.items() if is_there}
    chosen = next(name for name in bad if not bad[name])
    out: list[dict[str, Any]] = []
    for name, is_there in there.items():
        about = []
        if name == "cuda" and is_there:
            gpus = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
            about = [f"{gpu.name}, {gpu.total_memory / 1e9:.0f} GB" for gpu in gpus]
        out.append({"name": name, "there": is_there, "about": about, "auto": name == chosen, "bad": bad.get(name)})
    return out


def packages() -> list[dict[str, Any]]:
    """What the tool depends on: the version that is wanted, the one that is there, and the extra that asks for it.

    Returns:
        A dictionary each; `version` None where it is missing, `extra` None for what every run needs. Where the tool runs from
        a checkout that is not installed, the key packages without a wanted version.
    """
    try:
        declared = list(_requirements())
    except (importlib.metadata.PackageNotFoundError, ImportError):
        declared = [{"name": name, "wanted": "", "extra": None} for name in provenance.KEY_PACKAGES[1:]]
    versions = provenance.versions([each["name"] for each in declared])
    out = []
    for each in declared:
        version, wanted = versions[each["name"]], each["wanted"]
        ok = version is not None
        if version is not None and wanted:
            from packaging.specifiers import SpecifierSet

            ok = SpecifierSet(wanted).contains(version, prereleases=True)
        out.append({**each, "version": version, "ok": ok})
    return out


def _requirements() -> Iterator[dict[str, Any]]:
    """The declared dependencies whose markers hold here."""
    from packaging.requirements import Requirement

    extras = importlib.metadata.metadata(_DISTRIBUTION).get_all("Provides-Extra") or []
    for wanted in map(Requirement, importlib.metadata.requires(_DISTRIBUTION) or []):
        marker = wanted.marker
        asking = [None, *extras] if marker else [None]
        holds = [extra for extra in asking if marker is None or marker.evaluate({"extra": extra or ""})]
        if holds:
            yield {"name": wanted.name, "wanted": str(wanted.specifier), "extra": holds[0]}


def models() -> list[dict[str, Any]]:
    """Each `model=` option, and whether it can be loaded without a network; None for one that needs a path."""
    from tiny_ablation.models.identity import ready

    out = []
    for name in options("model"):
        cfg, is_ready = model_option(name), None
        if cfg.path or cfg.source is not ModelSource.local:
            try:
                is_ready = ready(cfg)
            except (TinyAblateError, ImportError, OSError):  # a damaged file, or a library that is missing
                is_ready = False
        out.append({"name": name, "source": cfg.source.value, "ready": is_ready})
    return out


def cache() -> dict[str, Any]:
    """The place of converted models, without the user's name, its size, and what is free on its disk."""
    place = cache_dir()
    there = next(p for p in (place, *place.parents) if p.exists())
    if "TINY_ABLATE_CACHE" in os.environ:
        name = "TINY_ABLATE_CACHE"
    else:  # only here: an account without a home has no `Path.home()`
        home = Path.home()
        name = f"~/{place.relative_to(home).as_posix()}" if place.is_relative_to(home) else "the user's cache"
    return {
        "place": name,
        "bytes": sum(p.stat().st_size for p in place.rglob("*") if p.is_file()) if place.is_dir() else 0,
        "free_bytes": shutil.disk_usage(there).free,
    }


def probe(settings: Settings) -> dict[str, Any]:
    """A small sweep twice, and against the reference in double precision; `verify` says how much of it.

    Returns:
        `error` where it could not be run; else whether both sweeps are equal to the bit (`equal`) and by how much any number
        differs (`largest_change`), and how far the device is from float64 (`floor`) beside what is taken for rounding
        (`tolerance`), with the verdict of the verify slice.

    Raises:
        ConfigError, DataError: the settings are wrong; a device or model that cannot be used is an `error`.
    """
    root = settings.root
    root.verify.mode = VerifyMode.float64
    about = {"model": root.model.name, "dtype": root.device.dtype.value}
    started = time.perf_counter()
    try:
        found = _probe(settings)
    except (ConfigError, DataError):
        raise
    except (TinyAblateError, ImportError) as error:
        return about | {"error": str(error)}
    return about | found | {"seconds": round(time.perf_counter() - started, 1)}


def _probe(settings: Settings) -> dict[str, Any]:
    from tiny_ablation.ablations.registry import run_spec
    from tiny_ablation.run.prepare import prepare_run
    from tiny_ablation.verify.check import check, sentence

    prepared = prepare_run(run_spec(settings))
    first, second = _sweep(prepared), _sweep(prepared)
    changes = [
        abs(a.values[name] - b.values[name]).max(initial=0.0) for a, b in zip(first, second, strict=True) for name in a.values
    ]
    found = check(prepared, first)
    return {
        "device": prepared.device,
        "n_sites": sum(len(arm.rows) for arm in prepared.arms),
        "n_examples": len(prepared.tokens),
        "equal": bool(max(changes) == 0.0),
        "largest_change": float(max(changes)),
        "floor": found["max_abs_diff"],
        "floor_sites": found["n_sites"],
        "floor_examples": found["n_examples"],
        "tolerance": found["tolerance"],
        "verdict": found["verdict"],
        "fault": sentence(found),
    }


def _sweep(prepared: Any) -> Any:
    """One sweep through the tool's own path, kept nowhere."""
    from tiny_ablation.run.measure import executors, measure
    from tiny_ablation.store.rundir import RunDir

    with tempfile.TemporaryDirectory() as scratch:
        return measure(prepared, RunDir(Path(scratch)), executors(prepared), lambda _: None)


def problems(found: dict[str, Any]) -> Iterator[str]:
    """What is known to be wrong, in words with what to do."""
    if not found["devices"]:
        yield "torch cannot be imported, so nothing can be run; install it (see the README)"
    for device in found["devices"]:
        if device["bad"]:
            yield f"{device['name']}: {device['bad']}"
    for package in found["packages"]:
        if package["extra"] is None and not package["ok"]:
            have = f"is {package['version']}" if package["version"] else "is missing"
            wanted = f"{package['name']}{package['wanted']}"
            yield f"{package['name']} {have}, and the tool needs {wanted}: pip install '{wanted}'"
    probe = found["probe"]
    if "error" in probe:
        yield f"the probe could not be run: {probe['error']}"
        return
    if probe["fault"]:
        yield probe["fault"]
    if probe["largest_change"] > probe["tolerance"]:
        yield (
            f"the same sweep twice on {probe['device']} differs by up to {probe['largest_change']:.1e}, more than rounding; "
            "set device.deterministic=true, or use another device"
        )
