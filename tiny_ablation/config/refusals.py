"""What Hydra and OmegaConf refuse, in one line that says which key or value it is, what was meant perhaps, and what to type."""

import re
import shlex
import typing
from collections import defaultdict
from dataclasses import fields, is_dataclass
from typing import Any

from tiny_ablation.config.keys import unknown_choice
from tiny_ablation.config.schema import RootConfig
from tiny_ablation.errors import did_you_mean

_EXTRAS = {"ray": "ray", "submitit": "slurm"}


def is_refusal(error: Exception) -> bool:
    """Whether Hydra or OmegaConf refused the user's arguments."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    # Hydra raises a bare ValueError for flags that exclude each other, such as --cfg with -m.
    from_flags = isinstance(error, ValueError) and "Only one of --" in str(error)
    return isinstance(error, HydraException | OmegaConfBaseException) or from_flags


def explain(error: Exception) -> str:
    """What was refused, from an error for which `is_refusal` holds."""
    from hydra.errors import OverrideParseException

    text, cause = str(error).strip(), str(error.__cause__ or "").strip()
    text = text if not cause or cause in text else f"{text}\n{cause}"
    if isinstance(error, OverrideParseException):
        key, equals, value = error.override.partition("=")
        if not equals:
            return f"{error.override}: write KEY=VALUE, or a sub-command first (`tiny-ablate help` lists them)"
        return f"{error.override}: Hydra cannot read this value; as plain text it is typed {_quoted(key, value)}"
    if found := re.search(r"Ambiguous value for argument '(.+?)'\n", text, re.DOTALL):
        key, value = found[1].split("=", 1)
        return (
            f"{found[1]}: a comma separates the values of a sweep, which needs -m; a list is typed "
            f"{shlex.quote(f'{key}=[{value}]')}, and text with a comma in it {_quoted(key, value)}"
        )
    if (found := re.search(r"Could not override '([^']+)'", text)) and "+" in text:
        return unknown_key(found[1])
    if found := re.search(r"Could not (?:load|find) 'hydra/launcher/(ray|submitit)", text):
        return f"hydra/launcher: this one needs an extra: pip install 'tiny-ablation[{_EXTRAS[found[1]]}]'"
    if found := re.search(r"merging override \+*([^=\s]+)=.*\n*.*Invalid value '(.*)', expected one of \[(.*)\]", text):
        return str(unknown_choice(found[1], found[2], found[3].split(", ")))
    return _options(text) or _joined(text)


def unknown_key(name: str) -> str:
    """The message for a key that the config at hand does not have."""
    known = _known_keys()
    if owners := known.get(name):
        return f"{name} is a key of ablation={', '.join(owners)}, and of no other; choose one of these, or leave it out"
    group = name.partition(".")[0]
    where = group if any(key.startswith(f"{group}.") for key in known) else "config"
    return (
        f"there is no config key {name}{did_you_mean(name, known)}; `tiny-ablate help {where}` explains those that there are, "
        "and free text goes to notes.*"
    )


def _known_keys() -> dict[str, list[str]]:
    """Every key, with the ablations that it belongs to where it is not everyone's."""
    from hydra.core.config_store import ConfigStore
    from omegaconf import OmegaConf

    known: dict[str, list[str]] = defaultdict(list)
    for each in fields(RootConfig):
        known[each.name] = []
        if is_dataclass(each.type):
            known |= {f"{each.name}.{key.name}": [] for key in fields(typing.cast(Any, each.type))}
    for name, stored in ConfigStore.instance().repo.get("ablation", {}).items():
        kind: Any = OmegaConf.get_type(stored.node)
        for key in fields(kind):
            if key.name != "kind":
                known[f"ablation.{key.name}"].append(name.removesuffix("_schema.yaml"))
    return known


def _quoted(key: str, value: str) -> str:
    r"""The override as it is typed in a shell so that its value is taken as it stands.

    Backslashes count in Hydra's quotes only before a quote or at the end.
    """
    escaped = re.sub(r'(\\*)("|$)', lambda m: m[1] * 2 + ('\\"' if m[2] else ""), value)
    return shlex.quote(f'{key}="{escaped}"')


def _options(text: str) -> str:
    """The message for an option that there is not; empty for anything else."""
    head, found, options = text.partition("Available options")
    if not found:
        return ""
    names = [line.strip() for line in options.split("Config search path:")[0].splitlines()[1:] if line.strip()]
    if missing := re.search(r"Could not find '([^']+)/([^'/]+)'", text):
        return f"there is no {missing[1]}={missing[2]}{did_you_mean(missing[2], names)}; there are {', '.join(names)}"
    return f"{_joined(head)}; there are {', '.join(names)}"


def _joined(text: str) -> str:
    """Several lines as one, without search paths and type names."""
    lines = [line.strip() for line in text.split("Config search path:")[0].splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith(("full_key:", "reference_type=", "object_type="))]
    return "; ".join(lines).replace(".;", ";")
