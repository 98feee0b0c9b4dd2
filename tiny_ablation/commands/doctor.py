"""Say what this machine has, what is ready offline, and how exactly it computes.

A probe runs a small sweep twice, which must give the same bits, and compares it with the plain reference in float64. It uses
the toy model unless another one is named. The exit code is 1 where something is known to be wrong.

  tiny-ablate doctor
  tiny-ablate doctor --json
  tiny-ablate doctor model=smollm2_135m device.dtype=bfloat16
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from tiny_ablation.commands._console import add_overrides, parser, say, say_json
from tiny_ablation.config.schema import TrackingBackend, TrackingConfig
from tiny_ablation.version import __version__

_SQLITE = "sqlite:///"
_WIDTH = 90  # of the lines of a list


def main(args: list[str]) -> int:
    """Look, probe and report."""
    flags = parser("doctor", __doc__)
    add_overrides(flags)
    flags.add_argument("--json", action="store_true", help="print everything as JSON")
    given = flags.parse_intermixed_args(args)
    from tiny_ablation.commands._compose import compose
    from tiny_ablation.verify import doctor

    settings = compose(_with_defaults(given.overrides))
    found: dict[str, Any] = {
        "version": __version__,
        "machine": doctor.machine(),
        "devices": doctor.devices(),
        "packages": doctor.packages(),
        "models": doctor.models(),
        "cache": doctor.cache(),
        "tracking": _tracking(settings.root.tracking),
        "probe": doctor.probe(settings),
    }
    found["problems"] = list(doctor.problems(found))
    if given.json:
        say_json(found)
    else:
        say(*_text(found))
    return 1 if found["problems"] else 0


def _with_defaults(overrides: Sequence[str]) -> list[str]:
    """A small sweep, all of it checked on the toy model; what the user says wins."""
    said = {override.partition("=")[0].lstrip("+~") for override in overrides}
    toy = ["model=toy", "verify.n_sites=null", "verify.n_examples=null"]
    return [
        "dataset.n_examples=8",
        *([] if "model" in said else toy),
        *([] if "ablation" in said else ["ablation.scales=[0.0]"]),
        *overrides,
    ]


def _tracking(cfg: TrackingConfig) -> dict[str, Any]:
    """Where runs would be published: the kind of store, and how many runs a sqlite store holds (None: not there yet)."""
    if cfg.backend is TrackingBackend.off:
        return {"store": "off"}
    if cfg.uri and not cfg.uri.startswith(_SQLITE):
        return {"store": "server"}
    file = Path(cfg.uri.removeprefix(_SQLITE)) if cfg.uri else Path("mlflow.db")
    if not file.is_file():
        return {"store": "sqlite", "runs": None}
    try:
        with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)) as store:
            return {"store": "sqlite", "runs": store.execute("select count(*) from runs").fetchone()[0]}
    except sqlite3.Error as error:
        return {"store": "sqlite", "runs": None, "unreadable": str(error)}


def _text(found: dict[str, Any]) -> Iterator[str]:
    yield f"tiny-ablate {found['version']}, Python {found['machine']['python']}, {found['machine']['platform']}"
    for title, lines in (
        ("Machine", _machine_lines(found["machine"])),
        ("Devices", _device_lines(found["devices"])),
        ("Packages", _package_lines(found["packages"])),
        ("Models", _model_lines(found["models"], found["cache"])),
        ("Tracking", [_tracking_line(found["tracking"])]),
        ("Probe", _probe_lines(found["probe"])),
    ):
        yield ""
        yield title
        yield from (f"  {line}" for line in lines)
    yield ""
    if not found["problems"]:
        yield "Nothing is known to be wrong here."
    for problem in found["problems"]:
        yield f"Problem: {problem}"


def _machine_lines(machine: dict[str, Any]) -> Iterator[str]:
    cores = f"{machine['cores']} cores" + (f", {machine['logical_cores']} logical" if "logical_cores" in machine else "")
    yield f"processor  {machine.get('cpu', 'unknown')}, {cores}"
    if "memory_bytes" in machine:
        yield f"memory     {_gb(machine['memory_bytes'])}, {_gb(machine['free_bytes'])} free"
    omp = f" (OMP_NUM_THREADS={machine['omp_num_threads']})" if machine["omp_num_threads"] else ""
    yield f"threads    {machine['threads'] or 'unknown'}{omp}"


def _device_lines(devices: Sequence[dict[str, Any]]) -> Iterator[str]:
    for device in devices:
        words = ["there" if device["there"] else "not there", *device["about"]]
        words += ["device=auto takes it"] if device["auto"] else ["must not be used"] if device["bad"] else []
        yield f"{device['name']:<5} {', '.join(words)}"


def _package_lines(packages: Sequence[dict[str, Any]]) -> Iterator[str]:
    needed = [package for package in packages if package["extra"] is None]
    words = [f"{package['name']} {package['version'] or 'missing'}" for package in needed]
    yield from _wrapped(words)
    for extra in dict.fromkeys(package["extra"] for package in packages if package["extra"]):
        missing = [p["name"] for p in packages if p["extra"] == extra and not p["ok"]]
        yield f"optional [{extra}]: " + (f"missing {', '.join(missing)}" if missing else "present")


def _model_lines(models: Sequence[dict[str, Any]], cache: dict[str, Any]) -> Iterator[str]:
    for title, state in (("ready offline", True), ("need a network once", False), ("need model.path", None)):
        names = [model["name"] for model in models if model["ready"] is state]
        if names:
            yield from _wrapped([f"{title}: {names[0]}", *names[1:]])
    yield f"cache: {cache['place']}, {_gb(cache['bytes'])}; {_gb(cache['free_bytes'])} free on its disk"


def _tracking_line(tracking: dict[str, Any]) -> str:
    if tracking["store"] == "off":
        return "off"
    if tracking["store"] == "server":
        return "the server of tracking.uri; it was not asked"
    if "unreadable" in tracking:
        return f"the store cannot be read ({tracking['unreadable']}); runs go on without it"
    if tracking["runs"] is None:
        return "no store here yet; the first run makes mlflow.db"
    return f"a sqlite store with {tracking['runs']} runs"


def _probe_lines(probe: dict[str, Any]) -> Iterator[str]:
    if "error" in probe:
        yield f"model={probe['model']} {probe['dtype']}: could not be run"
        return
    yield (
        f"model={probe['model']} on {probe['device']} {probe['dtype']}: {probe['n_sites']} sites, "
        f"{probe['n_examples']} examples, {probe['seconds']} s"
    )
    change = "the same bits" if probe["equal"] else f"differs by up to {probe['largest_change']:.1e}"
    yield f"twice            {change}"
    yield (
        f"against float64  differs by up to {probe['floor']:.1e} ({probe['floor_sites']} sites, {probe['floor_examples']} "
        f"examples); below {probe['tolerance']:.0e} counts as rounding: {probe['verdict']}"
    )


def _wrapped(words: Sequence[str]) -> Iterator[str]:
    """Words in lines, commas between them."""
    line = ""
    for word in words:
        if line and len(line) + len(word) > _WIDTH:
            yield f"{line},"
            line = f"  {word}"
        else:
            line = f"{line}, {word}" if line else word
    yield line


def _gb(n: int) -> str:
    return f"{n / 1e9:.1f} GB"
