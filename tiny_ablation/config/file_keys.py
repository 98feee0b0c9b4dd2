"""What a file of options may say: an experiment, an option or a root file from --config-dir, which may be a stranger's.

It may say what is measured. What is executed, where files are written, where results are sent, and what is read from the
environment is said on the command line only. This is an allow-list: a key that is new to Hydra or to this package is refused in
files until it stands here.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tiny_ablation.errors import ConfigError, said
from tiny_ablation.paths import conf_dir

# Whole groups whose keys say what is measured, and single keys.
_GROUPS = ("dataset", "ablation", "metrics", "generate", "stats", "sae", "sweep", "verify", "device", "notes")
_MODEL = ("name", "source", "id", "repo", "revision", "path", "base", "weights", "quantization", "prepend_bos", "seed", "shape")
_SINGLE = {
    "seed",
    "condition",
    "tracking.backend",
    "tracking.experiment",
    "hydra.mode",
    "run.shards",
    *(f"model.{name}" for name in _MODEL),
}
# Where to write: only inside the working directory, which `trust` looks at once the whole config is known.
PLACES = ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir")
# Of a launcher: sizes and limits, which are numbers, and names of its cluster's, which are words.
_NUMBERS = {
    *("n_jobs", "batch_size", "timeout", "verbose", "timeout_min", "nodes", "tasks_per_node", "cpus_per_task"),
    *("gpus_per_node", "gpus_per_task", "mem_gb", "array_parallelism", "max_num_timeout", "signal_delay_s"),
    *("ray.remote.num_cpus", "ray.remote.num_gpus", "ray.init.num_cpus", "ray.init.num_gpus"),
}
_WORDS = {"partition", "qos", "account", "constraint", "batch_size"}
_WORD = re.compile(r"[A-Za-z0-9][\w.+-]*", re.ASCII)
_PARAMS = "hydra.sweeper.params."
_RESOLVERS = {"now", "cell"}  # the others read the environment, make nodes or hide what is read


def is_foreign(scheme: str, path: str) -> bool:
    """Whether a place of Hydra's search path is a directory that does not come with this package or another one."""
    return scheme == "file" and Path(path) != conf_dir()


def is_moved(option: str, package: str | None) -> bool:
    """Whether an option is put at a place among Hydra's own keys that is not its own, as a defaults list can say."""
    own = option.rpartition("/")[0].replace("/", ".")
    return f"{package or ''}.".startswith("hydra.") and not f"{own}.".startswith(f"{package}.")


def check_file(cfg: Any, file: str) -> None:
    """Refuse a file that says what only the command line may say. The ConfigError names the first key."""
    from omegaconf import OmegaConf

    for key, value in leaves(OmegaConf.to_container(cfg, resolve=False)):
        for name, each in _params(key, value, file) if key.startswith(_PARAMS) else [(key, value)]:
            if not _is_allowed(name, each):
                raise ConfigError(
                    f"{file}: {name}: a file may not set this; if you have read it and want it, say it on the command line"
                )
        for text in (key, value):
            if isinstance(text, str):
                _check_interpolations(text, key, file)


def leaves(node: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """Every value that holds no others, with its dotted key."""
    if not node or not isinstance(node, Mapping | list):
        if above and node != {}:
            yield above, node
        return
    for name, value in node.items() if isinstance(node, Mapping) else enumerate(node):
        yield from leaves(value, f"{above}.{name}" if above else str(name))


def _is_allowed(key: str, value: Any) -> bool:
    group, _, rest = key.partition(".")
    if key.startswith("hydra.launcher."):
        name = key.removeprefix("hydra.launcher.")
        if name in _NUMBERS and (value is None or isinstance(value, int | float)):
            return True
        return name in _WORDS and isinstance(value, str) and _WORD.fullmatch(value) is not None
    if key in PLACES:
        return isinstance(value, str)
    # A second model stands below another group.
    return key in _SINGLE or (group in _GROUPS and bool(rest) and not rest.endswith("trust_remote_code"))


def _params(key: str, value: Any, file: str) -> Iterator[tuple[str, Any]]:
    """What one key of `hydra.sweeper.params` says, which Hydra reads as it reads the command line.

    A group by itself, such as `dataset`, chooses one of its options, which are files like this one.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    text = f"{key.removeprefix(_PARAMS)}={value}"
    try:
        override = OverridesParser.create().parse_override(text)
        values = list(_swept(override))
    except (HydraException, ValueError) as error:
        raise ConfigError(f"{file}: {key} cannot be read ({said(error)})") from error
    name = override.key_or_group
    # What a job is told so counts as said on the command line, so nothing of Hydra's own may be.
    if override.is_delete() or override.package is not None or name.startswith("hydra") or "$" in text:
        yield key, value
    for each in values:
        chooses = isinstance(each, str) and name in (*_GROUPS, "model", "tracking", "experiment")
        yield from [] if chooses else leaves(each, name) if isinstance(each, dict | list) else [(name, each)]


def _swept(override: Any) -> Iterator[Any]:
    """The values that a swept key takes, one after the other; of a pattern, itself: it stands for names of options."""
    from hydra.core.override_parser.types import Glob, QuotedString

    value = override.value()
    if isinstance(value, Glob):
        yield str(value.include)
    elif override.is_sweep_override():
        yield from override.sweep_iterator(lambda each: each.text if isinstance(each, QuotedString) else each)
    else:
        yield value


def _check_interpolations(text: str, key: str, file: str) -> None:
    """Other keys and the time may be referred to, except where Hydra acts on the value."""
    if "${" not in text:
        return
    from omegaconf.errors import OmegaConfBaseException
    from omegaconf.grammar_parser import parse

    try:
        names = set(_resolvers(parse(text)))
    except OmegaConfBaseException as error:
        raise ConfigError(f"{file}: {key}={text} cannot be read ({said(error)})") from error
    acted_on = key.startswith("hydra.") and key not in PLACES
    if acted_on or names - _RESOLVERS:
        raise ConfigError(
            f"{file}: {key}={text}: a file may refer to other keys (${{model.name}}) and to the time (${{now:%Y}}), not to "
            "the environment or by any other resolver; write the value, or say it on the command line"
        )


def _resolvers(tree: Any) -> Iterator[str]:
    """The resolvers that a text names, as it writes them: one that is put together from others is none that is allowed."""
    for child in getattr(tree, "children", None) or ():
        if type(child).__name__ == "ResolverNameContext":
            yield child.getText()
        yield from _resolvers(child)
