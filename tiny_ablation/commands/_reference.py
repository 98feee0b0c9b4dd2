"""Every config key with its type, default and meaning, read off the schema; what `tiny-ablate help config` prints.

All of it is what the fields of the schema say (`tiny_ablation.config.keys`), so that there is one place to write it.
"""

import inspect
import itertools
import json
import re
import types
import typing
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from enum import Enum, EnumMeta
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import MISSING as REQUIRED

from tiny_ablation import commands
from tiny_ablation.ablations.registry import all_ablations, find_ablation
from tiny_ablation.config.keys import about, default_of, plain
from tiny_ablation.config.schema import RootConfig
from tiny_ablation.paths import conf_dir
from tiny_ablation.report.markdown import row

_INTRODUCTION = """\
Made by `make docs` (`tiny-ablate help config`) from the schema; a test compares the two. A key is set as `KEY=VALUE` on the
command line, in a file of your own (`--config-dir`), or in `conf/`. Keys marked * do not define a result: they are not part of
a run's identity, and runs that differ in nothing else have the same `run_id`."""


class Line(NamedTuple):
    """One config key."""

    name: str  # as it is typed
    values: str  # its type, or the values it may have
    default: str  # as YAML
    help: str  # what it means; empty where the name says it
    defines: bool  # whether it is part of a run's identity


def reference() -> str:
    """The whole reference as Markdown."""
    lines = ["# Reference: every config key", "", _INTRODUCTION, *_section("The run as a whole", keys(RootConfig))]
    for group in fields(RootConfig):
        if not is_dataclass(group.type):
            continue
        lines += _options(group.name)
        if group.name == "ablation":
            for kind in all_ablations():
                found = find_ablation(kind)
                own = [row for row in keys(found.config, "ablation.") if row.name != "ablation.kind"]
                lines += _section(f"`ablation={kind}`", own, inspect.getdoc(inspect.getmodule(type(found))) or "", level=3)
        else:
            defines = about(group).identity or group.name == "sae"  # ablations hold a copy, which counts
            lines += _section("", keys(typing.cast(type, group.type), f"{group.name}.", defines=defines))
    lines += [*_options("experiment"), *_options("hydra/launcher")]
    lines += ["", "## Sub-commands", "", "| command | what it does |", "|---|---|"]
    lines += (f"| `tiny-ablate {name.replace('_', '-')}` | {text} |" for name, text in commands.summaries().items())
    return "\n".join(lines) + "\n"


def keys(group: type, prefix: str = "", *, defines: bool = True) -> list[Line]:
    """The keys of one dataclass of the schema, in its order; of groups those that say what they are, in one line.

    `defines` tells whether the group is part of a run's identity.
    """
    found = []
    for each in fields(group):
        known, is_group = about(each), is_dataclass(each.type)
        if is_group and not known.help:
            continue
        choices = ", ".join(f"`{choice}`" for choice in known.choices)
        values = "keys of `model`" if is_group else f"{_type(each.type, choices)}{', ' if known.bounds else ''}{known.bounds}"
        # What an enum says of itself, for a key that adds nothing to it.
        enum = next((kind for kind in (each.type, *typing.get_args(each.type)) if isinstance(kind, EnumMeta)), None)
        meaning = known.help or (inspect.getdoc(enum) or "" if enum else "").partition("\n")[0].rstrip(".")
        default = "" if is_group else shown(default_of(each))
        found.append(Line(f"{prefix}{each.name}", values, default, meaning, defines and known.identity))
    return found


def _section(title: str, found: list[Line], about: str = "", level: int = 2) -> Iterator[str]:
    if title:
        yield ""
        yield f"{'#' * level} {title}"
    if about:
        yield ""
        yield about.partition("\n")[0]
    if found:
        yield ""
        yield "| key | values | default | meaning |"
        yield "|---|---|---|---|"
        for key in found:
            default = "" if key.values == "keys of `model`" else f"`{key.default}`"
            cells = [f"`{key.name}`{'' if key.defines else ' *'}", key.values, default, key.help]
            yield row(cells)


def _options(group: str) -> Iterator[str]:
    """The option files of a config group with their first comments."""
    files = sorted((conf_dir() / group).glob("*.yaml"))
    yield ""
    yield f"## `{group}`"
    if files:
        yield ""
        yield "| option | what it is |"
        yield "|---|---|"
    for path in files:
        first = re.split(r"(?<=\.)\s", " ".join(header(path)))[0]
        yield row([f"`{group}={path.stem}`", first])


def header(path: Path) -> list[str]:
    """The comment at the top of an option file, without what Hydra reads."""
    top = itertools.takewhile(lambda line: line.startswith("#"), path.read_text(encoding="utf-8").splitlines())
    return [line.removeprefix("#").removeprefix(" ") for line in top if "@package" not in line]


def shown(value: Any) -> str:
    if value == REQUIRED:
        return "required"
    return json.dumps(plain(value), ensure_ascii=False).strip('"')


def _type(kind: Any, choices: str) -> str:
    """A type in words: the choices of an enum, `number`, `list of text`."""
    if isinstance(kind, EnumMeta):
        return ", ".join(f"`{each.value}`" for each in typing.cast(type[Enum], kind))
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(_type(each, choices) for each in arguments if not (choices and each is bool))
    if origin is list:
        return f"list of {_type(arguments[0], choices)}"
    if origin is dict:
        return "mapping"
    words = {
        str: choices or "text",
        int: "whole number",
        float: "number",
        bool: "true or false",
        type(None): "null",
        Any: "any",
    }
    return words.get(kind, getattr(kind, "__name__", str(kind)))
