"""What a config may not do, whoever wrote it: name code to run, or write where nobody looked.

Hydra makes objects of config nodes that name a class (`_target_`) and of logging configs (`class`, `()`, `ext://`), and
imports the packages on its search path (`pkg://`). All of that is refused before Hydra looks at it, on the command line too.
What is allowed are the few names that Hydra and this package need themselves. What files may say is less: see `file_keys`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path, PurePath
from typing import Any

from tiny_ablation.config.file_keys import PLACES, check_file, is_foreign, is_moved
from tiny_ablation.config.yaml_size import check_yaml
from tiny_ablation.errors import ConfigError, TinyAblateError, said

TARGET = "_target_"
_PLUGINS = ("hydra._internal.core_plugins.", "hydra_plugins.")
# Without it nothing would look at a directory before Hydra writes there.
_CALLBACKS = {"sweep": {TARGET: "tiny_ablation.callbacks.SweepCallback"}}
_LOGGING = {
    "logging.StreamHandler",
    "logging.FileHandler",
    "logging.NullHandler",
    "logging.handlers.RotatingFileHandler",
    "logging.handlers.TimedRotatingFileHandler",
    "logging.Formatter",
    "colorlog.ColoredFormatter",
    "tiny_ablation.store.runlog.RunLog",
}
_STREAMS = {"ext://sys.stdout", "ext://sys.stderr"}
# Of these nodes Hydra or a launcher makes objects, so no value in them may come from a resolver that makes a whole node.
_MADE = ("launcher", "sweeper", "job_logging", "hydra_logging")
# Others can make the processes that a run starts load code (LD_PRELOAD, PYTHONPATH, PIP_INDEX_URL).
_ENVIRONMENT = {
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"),
    *("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "CUDA_LAUNCH_BLOCKING", "CUBLAS_WORKSPACE_CONFIG"),
    *("HF_HOME", "HF_HUB_OFFLINE", "TOKENIZERS_PARALLELISM", "TINY_ABLATE_CACHE", "NO_COLOR"),
}
_SEARCHED = ("hydra.", "hydra_plugins.", "tiny_ablation.")
_RERUN = "--experimental-rerun"


def guard_configs() -> None:
    """Have Hydra's loader refuse, in this process, what may not be said; a second call does nothing."""
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra._internal.config_repository import ConfigRepository

    if hasattr(ConfigLoaderImpl._load_single_config, "__wrapped__"):
        return
    load, search = ConfigLoaderImpl.load_configuration, ConfigRepository.initialize_sources
    load_one = ConfigLoaderImpl._load_single_config

    @wraps(load)
    def load_checked(self: Any, config_name: Any, overrides: list[str], *args: Any, **kwargs: Any) -> Any:
        with told_by_hydra():
            cfg = load(self, config_name, overrides, *args, **kwargs)
        if config_name is not None:  # Hydra asks for a config of its own to print its help
            check_config(cfg, overrides)
        return cfg

    @wraps(load_one)
    def load_one_checked(self: Any, default: Any, repo: Any) -> Any:
        loaded = load_one(self, default, repo)
        scheme, _, place = loaded.path.partition("://")
        if is_foreign(scheme, place) or is_moved(default.config_path, default.package):
            check_file(loaded.config, f"{place}/{default.config_path}.yaml")
        return loaded

    @wraps(search)
    def search_checked(self: Any, config_search_path: Any) -> None:
        check_search_path([element.path for element in config_search_path.get_path()])
        search(self, config_search_path)
        for source in self.sources:
            if source.scheme() == "file":
                source.load_config = _read_checked(source)

    ConfigLoaderImpl.load_configuration = load_checked
    ConfigLoaderImpl._load_single_config = load_one_checked
    ConfigRepository.initialize_sources = search_checked


def _read_checked(source: Any) -> Callable[[str], Any]:
    """How a directory of option files reads one of them, once it is known to be of a size that can be read."""
    read = source.load_config

    @wraps(read)
    def read_checked(config_path: str) -> Any:
        file = Path(source.path) / source._normalize_file_name(config_path)
        if file.is_file():
            check_yaml(file.read_text(encoding="utf-8"), file)
        return read(config_path)

    return read_checked


@contextmanager
def told_by_hydra() -> Iterator[None]:
    """What Hydra and its parsers raise beside their own errors, when an option file or override makes no sense to them."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    try:
        yield
    except (HydraException, OmegaConfBaseException, TinyAblateError):
        raise
    except Exception as error:
        raise ConfigError(
            f"the config cannot be put together ({said(error)}); look at the option files and overrides given"
        ) from error


def check_flags(args: Sequence[str]) -> None:
    """Refuse Hydra's flag that reads a pickle, under any of the abbreviations that it takes."""
    for arg in args:
        flag = arg.partition("=")[0]
        if len(flag) > len("--") and _RERUN.startswith(flag):
            raise ConfigError(
                f"{_RERUN} reads a pickle, which can run code when it is opened; repeat a run with the command that stands in "
                "its report.html, or from its config.yaml"
            )


def check_search_path(paths: Sequence[str]) -> None:
    """Refuse packages to search for options in: looking there imports them. The ConfigError names it."""
    for path in paths:
        package = path.removeprefix("pkg://")
        if path.startswith("pkg://") and not f"{package}.".startswith(_SEARCHED):
            raise ConfigError(
                f"hydra.searchpath: {path} would import a package to look for options in; give a directory: file://DIR"
            )


def check_config(cfg: Any, overrides: Sequence[str] = ()) -> None:
    """Refuse a composed config that names code to run, or has Hydra write where nobody looked."""
    from omegaconf import OmegaConf

    plain: Any = OmegaConf.to_container(cfg, resolve=False)
    for key, value in _targets(plain):
        # The few that Hydra needs; an interpolation is refused, whatever it would become.
        plugin = key in ("hydra.launcher._target_", "hydra.sweeper._target_") and str(value).startswith(_PLUGINS)
        if not plugin and (key, value) != (f"hydra.callbacks.sweep.{TARGET}", _CALLBACKS["sweep"][TARGET]):
            raise _refusal(key, value)
    hydra = OmegaConf.select(cfg, "hydra")
    for name in _MADE:
        for key, value in _resolved(hydra, name, "hydra"):
            _check_made(key, value)
    for key in PLACES:
        _check_place(hydra, key, overrides)
    _check_own(plain.get("hydra", {}))


def _targets(node: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """Every value under the name that Hydra makes objects by, with its dotted key."""
    items = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list) else ()
    for name, value in items:
        key = f"{above}.{name}" if above else str(name)
        if name == TARGET:
            yield key, value
        yield from _targets(value, key)


def _resolved(parent: Any, name: Any, above: str) -> Iterator[tuple[str, Any]]:
    """The values under a node as Hydra would see them."""
    from omegaconf import Container, OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    key, interpolated = f"{above}.{name}", False
    try:
        if parent is None or OmegaConf.is_missing(parent, name):
            return
        interpolated = OmegaConf.is_interpolation(parent, name)
        value = parent[name]
    except (OmegaConfBaseException, LookupError):
        return  # it cannot be had now, and so not by Hydra either
    if interpolated and not (value is None or isinstance(value, str | int | float)):
        raise ConfigError(f"{key}: an interpolation may not stand for a whole node here; write its keys out")
    if not isinstance(value, Container):
        yield key, value
        return
    for inner in value if OmegaConf.is_dict(value) else range(len(value)):  # pyright: ignore[reportArgumentType]
        yield from _resolved(value, inner, key)


def _check_made(key: str, value: Any) -> None:
    node, last = key.split(".")[1], key.rpartition(".")[2]
    if node in ("job_logging", "hydra_logging"):
        if last in ("class", "()") and value not in _LOGGING:
            raise _refusal(key, value)
        if isinstance(value, str) and "://" in value and value not in _STREAMS:
            raise _refusal(key, value)
    # Launchers of clusters write what names a job, its queue and the like into the head of a shell script, a line each.
    if node == "launcher" and isinstance(value, str) and not value.isprintable() and ".setup." not in key:
        raise ConfigError(f"{key}={value!r}: give one line of printable characters")


def _check_place(hydra: Any, key: str, overrides: Sequence[str]) -> None:
    """Outside the working directory nothing is written unless the command line says so."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    given = {each.lstrip("+").partition("=")[0] for each in overrides}
    if any(f"{key}.".startswith(f"{name}.") for name in given):
        return
    try:
        place = OmegaConf.select(hydra, key.removeprefix("hydra."))
    except OmegaConfBaseException:
        return  # of a job, whose number is not known yet; a plan looks at these
    if place is not None and (PurePath(str(place)).is_absolute() or ".." in PurePath(str(place)).parts):
        raise ConfigError(f"{key}={place}: only the command line may name a place outside the working directory: say it there")


def _check_own(hydra: Mapping[str, Any]) -> None:
    """What Hydra writes and calls by itself, and the environment that it sets."""
    if hydra.get("callbacks", _CALLBACKS) != _CALLBACKS:
        raise ConfigError(
            "hydra.callbacks: they are tiny-ablate's own, which look at a directory before anything is written; leave them as "
            f"they are: {_CALLBACKS}"
        )
    if (subdir := hydra.get("output_subdir")) is not None:
        raise ConfigError(
            f"hydra.output_subdir={subdir}: Hydra would write there before the directory is known to be free; a run writes its "
            "own config.yaml, so leave it null"
        )
    environment = hydra.get("job", {}).get("env_set") or {}
    for name in environment if isinstance(environment, Mapping) else [environment]:
        if name not in _ENVIRONMENT:
            raise ConfigError(
                f"hydra.job.env_set.{name}: a config may set {', '.join(sorted(_ENVIRONMENT))} and no other variable; set it "
                "in your shell"
            )


def _refusal(key: str, value: Any) -> ConfigError:
    return ConfigError(f"{key}={value}: a config may not name code to run ({TARGET} and its like are refused); leave it out")
