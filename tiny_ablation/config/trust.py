"""What a config may not do: name code to run.

Hydra makes objects of config nodes that name a class (`_target_`) and of logging configs (`class`, `()`, `ext://`), and
imports the packages on its search path (`pkg://`). All of that can stand in an experiment or option file from a stranger, so
it is refused before Hydra looks at it, whichever file or override it came from. What is allowed are the few names that Hydra
and this package need themselves.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

from tiny_ablation.config.yaml_size import check_yaml
from tiny_ablation.errors import ConfigError, TinyAblateError, said

TARGET = "_target_"
_PLUGINS = ("hydra._internal.core_plugins.", "hydra_plugins.")
_CALLBACKS = {"tiny_ablation.callbacks.SweepCallback"}
_LOGGING = {
    "logging.StreamHandler", "logging.FileHandler", "logging.NullHandler", "logging.handlers.RotatingFileHandler",
    "logging.handlers.TimedRotatingFileHandler", "logging.Formatter", "colorlog.ColoredFormatter",
    "tiny_ablation.store.runlog.RunLog",
}  # fmt: skip
_STREAMS = {"ext://sys.stdout", "ext://sys.stderr"}
# Of these nodes Hydra or a launcher makes objects, so no value in them may come from a resolver that makes a whole node.
_MADE = ("launcher", "sweeper", "callbacks", "job_logging", "hydra_logging")
# Lines of shell, interpreters and packages, for cluster launchers: from the command line only, never from a file.
_COMMANDS = ("setup", "python", "srun_args", "additional_parameters", "runtime_env")
# Others can make the processes that a run starts load code (LD_PRELOAD, PYTHONPATH, PIP_INDEX_URL).
_ENVIRONMENT = {
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER",
    "CUDA_LAUNCH_BLOCKING", "CUBLAS_WORKSPACE_CONFIG", "HF_HOME", "HF_HUB_OFFLINE", "TOKENIZERS_PARALLELISM",
    "TINY_ABLATE_CACHE", "NO_COLOR",
}  # fmt: skip
_SEARCHED = ("hydra.", "hydra_plugins.", "tiny_ablation.")
_RERUN = "--experimental-rerun"


def guard_configs() -> None:
    """Have Hydra's loader refuse, in this process, what names code; a second call does nothing."""
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra._internal.config_repository import ConfigRepository

    if hasattr(ConfigLoaderImpl.load_configuration, "__wrapped__"):
        return
    load, search = ConfigLoaderImpl.load_configuration, ConfigRepository.initialize_sources

    @wraps(load)
    def load_checked(self: Any, config_name: Any, overrides: list[str], *args: Any, **kwargs: Any) -> Any:
        with _told():
            cfg = load(self, config_name, overrides, *args, **kwargs)
        check_config(cfg, overrides)
        return cfg

    @wraps(search)
    def search_checked(self: Any, config_search_path: Any) -> None:
        check_search_path([element.path for element in config_search_path.get_path()])
        search(self, config_search_path)
        for source in self.sources:
            if source.scheme() == "file":
                source.load_config = _read_checked(source)

    ConfigLoaderImpl.load_configuration = load_checked
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
def _told() -> Iterator[None]:
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
    """Refuse Hydra's flag that reads a pickle, under any of the abbreviations that it takes.

    Raises:
        ConfigError: it is there.
    """
    for arg in args:
        flag = arg.partition("=")[0]
        if len(flag) > len("--") and _RERUN.startswith(flag):
            raise ConfigError(
                f"{_RERUN} reads a pickle, which can run code when it is opened; repeat a run with the command that stands in "
                "its report.html, or from its config.yaml"
            )


def check_search_path(paths: Sequence[str]) -> None:
    """Refuse packages to search for options in: looking there imports them.

    Raises:
        ConfigError: names the first.
    """
    for path in paths:
        package = path.removeprefix("pkg://")
        if path.startswith("pkg://") and not f"{package}.".startswith(_SEARCHED):
            raise ConfigError(
                f"hydra.searchpath: {path} would import a package to look for options in; give a directory: file://DIR"
            )


def check_config(cfg: Any, overrides: Sequence[str] = ()) -> None:
    """Refuse a composed config that names code to run.

    Args:
        cfg: as Hydra composed it, with the node `hydra`; nothing in it is made or called.
        overrides: what the command line said, where keys with commands may stand.

    Raises:
        ConfigError: names the key.
    """
    from omegaconf import OmegaConf

    plain: Any = OmegaConf.to_container(cfg, resolve=False)
    for key, value in _leaves(plain):
        if key.rpartition(".")[2] == TARGET and not _may_be_made(key, value):
            raise _refusal(key, value)
    for name in _MADE:
        for key, value in _resolved(OmegaConf.select(cfg, "hydra"), name, "hydra"):
            _check_made(key, value, overrides)
    if (subdir := plain.get("hydra", {}).get("output_subdir")) is not None:
        raise ConfigError(
            f"hydra.output_subdir={subdir}: Hydra would write there before the directory is known to be free; a run writes its "
            "own config.yaml, so leave it null"
        )
    environment = plain.get("hydra", {}).get("job", {}).get("env_set") or {}
    for name in environment if isinstance(environment, Mapping) else [environment]:
        if name not in _ENVIRONMENT:
            raise ConfigError(
                f"hydra.job.env_set.{name}: a config may set {', '.join(sorted(_ENVIRONMENT))} and no other variable; set it "
                "in your shell"
            )


def _leaves(node: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """Every value that holds no others, with its dotted key; a key is told whatever it holds."""
    items = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list) else ()
    for name, value in items:
        key = f"{above}.{name}" if above else str(name)
        if not isinstance(value, Mapping | list) or name == TARGET:
            yield key, value
        yield from _leaves(value, key)


def _may_be_made(key: str, value: Any) -> bool:
    """Whether a target is one of the few that Hydra needs; an interpolation is none, whatever it would become."""
    if key in ("hydra.launcher._target_", "hydra.sweeper._target_"):
        return str(value).startswith(_PLUGINS)
    parts = key.split(".")
    return parts[:2] == ["hydra", "callbacks"] and len(parts) == 4 and value in _CALLBACKS


def _resolved(parent: Any, name: Any, above: str) -> Iterator[tuple[str, Any]]:
    """The values under a node as Hydra would see them.

    Raises:
        ConfigError: an interpolation stands for a whole node.
    """
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
    if not isinstance(value, Container):
        yield key, value
        return
    if interpolated:
        raise ConfigError(f"{key}: an interpolation may not stand for a whole node here; write its keys out")
    for inner in value if OmegaConf.is_dict(value) else range(len(value)):  # pyright: ignore[reportArgumentType]
        yield from _resolved(value, inner, key)


def _check_made(key: str, value: Any, overrides: Sequence[str]) -> None:
    node, last = key.split(".")[1], key.rpartition(".")[2]
    if node in ("job_logging", "hydra_logging"):
        if last in ("class", "()") and value not in _LOGGING:
            raise _refusal(key, value)
        if isinstance(value, str) and "://" in value and value not in _STREAMS:
            raise _refusal(key, value)
    if node == "launcher" and value and any(part in _COMMANDS for part in key.split(".")[2:]):
        given = {each.lstrip("+~").partition("=")[0] for each in overrides}
        if not any(key == name or key.startswith(f"{name}.") for name in given):
            raise ConfigError(
                f"{key}: what a launcher executes is taken from the command line alone, not from a file; if you have read it, "
                f"say it there: '{key.rpartition('.')[0] if last.isdigit() else key}=...'"
            )


def _refusal(key: str, value: Any) -> ConfigError:
    return ConfigError(
        f"{key}={value}: a config may not name code to run ({TARGET} and its like are refused); leave it out"
    )
