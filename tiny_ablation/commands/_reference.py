"""Every config key with its type, default and meaning, read off the schema; what `tiny-ablate help config` prints.

A key's meaning is the comment beside its field, so that there is one place to write it.
"""

import ast
import inspect
import io
import itertools
import json
import re
import textwrap
import tokenize
import types
import typing
from collections.abc import Container, Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum, EnumMeta
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import MISSING as REQUIRED

from tiny_ablation import commands
from tiny_ablation.ablations.registry import ablation_names, find_ablation
from tiny_ablation.config.key import is_identity
from tiny_ablation.config.schema import AblationConfig, RootConfig
from tiny_ablation.paths import conf_dir

_INTRODUCTION = """\
Made by `make docs` (`tiny-ablate help config`) from the schema; a test compares the two. A key is set as `KEY=VALUE` on the
command line, in a file of your own (`--config-dir`), or in `conf/`. Keys marked * do not define a result: they are not part of
a run's identity, and runs that differ in nothing else have the same `run_id`."""


class Key(NamedTuple):
    """One config key.

    Attributes:
        name: as it is typed.
        values: its type, or the values it may have.
        default: as YAML.
        about: what it means; empty where the name says it.
        defines: whether it is part of a run's identity.
    """

    name: str
    values: str
    default: str
    about: str
    defines: bool


def reference() -> str:
    """The whole reference as Markdown."""
    return "\n".join(_lines()) + "\n"


def keys(group: type, prefix: str = "", leave_out: Container[str] = ()) -> list[Key]:
    """The keys of one dataclass of the schema, in its order."""
    about = _comments(group)
    found = (each for each in fields(group) if each.name not in leave_out)
    return [_key(f"{prefix}{each.name}", each, about.get(each.name, "")) for each in found]


def _enum_about(kind: Any) -> str:
    """What an enum says of itself, for a key whose comment says nothing."""
    choices = next((each for each in (kind, *typing.get_args(kind)) if isinstance(each, EnumMeta)), None)
    return (inspect.getdoc(choices) or "").partition("\n")[0].rstrip(".") if choices else ""


def _lines() -> Iterator[str]:
    yield "# Reference: every config key"
    yield ""
    yield _INTRODUCTION
    groups = [(each.name, each.type) for each in fields(RootConfig) if is_dataclass(each.type)]
    plain = keys(RootConfig, leave_out=dict(groups))
    yield from _section("The run as a whole", plain)
    for name, group in groups:
        yield from _options(name)
        if name == "ablation":
            yield from _kinds()
        else:
            yield from _section("", keys(typing.cast(type, group), f"{name}."))
    yield from _options("experiment")
    yield from _options("hydra/launcher")
    yield from _commands()


def _kinds() -> Iterator[str]:
    shared = {each.name for each in fields(AblationConfig)}
    for kind in ablation_names():
        found = find_ablation(kind)
        chosen = _yaml(conf_dir() / "ablation" / f"{kind}.yaml")
        own = [
            key for key in keys(found.config, "ablation.") if key.name.removeprefix("ablation.") not in shared
        ]
        own = [
            key._replace(default=chosen.get(key.name.removeprefix("ablation."), key.default)) for key in own
        ]
        yield from _section(
            f"`ablation={kind}`", own, inspect.getdoc(inspect.getmodule(type(found))) or "", level=3
        )


def _yaml(path: Path) -> dict[str, str]:
    """What an option file sets beside the schema's defaults, as YAML values."""
    from omegaconf import OmegaConf

    content = OmegaConf.to_container(OmegaConf.load(path)) if path.is_file() else {}
    assert isinstance(content, dict)
    return {str(key): _shown(value) for key, value in content.items() if key != "defaults"}


def _section(title: str, found: list[Key], about: str = "", level: int = 2) -> Iterator[str]:
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
            cells = [f"`{key.name}`{'' if key.defines else ' *'}", key.values, f"`{key.default}`", key.about]
            yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


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
        first = _first_sentence(path.read_text(encoding="utf-8"))
        yield f"| `{group}={path.stem}` | {first.replace('|', chr(92) + '|')} |"


def _first_sentence(text: str) -> str:
    """Of the comments at the top of an option file, without what Hydra reads."""
    top = itertools.takewhile(lambda line: line.startswith("#") or not line, text.splitlines())
    said = " ".join(line.lstrip("# ") for line in top if "@package" not in line)
    return re.split(r"(?<=\.)\s", said.strip())[0]


def _commands() -> Iterator[str]:
    yield ""
    yield "## Sub-commands"
    yield ""
    yield "| command | what it does |"
    yield "|---|---|"
    for name, text in commands.summaries().items():
        yield f"| `tiny-ablate {name.replace('_', '-')}` | {text} |"


def _key(name: str, each: Field[Any], about: str) -> Key:
    default = each.default if each.default is not MISSING else _made(each)
    return Key(name, _values(each.type), _shown(default), about or _enum_about(each.type), is_identity(each))


def _made(each: Field[Any]) -> Any:
    return each.default_factory() if each.default_factory is not MISSING else REQUIRED


def _shown(value: Any) -> str:
    if value == REQUIRED:
        return "required"
    return json.dumps(_plain(value), ensure_ascii=False).strip('"')


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value


def _values(kind: Any) -> str:
    """A type in words: the choices of an enum, `number`, `list of text`."""
    if isinstance(kind, EnumMeta):
        return ", ".join(f"`{each.value}`" for each in typing.cast(type[Enum], kind))
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(_values(each) for each in arguments)
    if origin is list:
        return f"list of {_values(arguments[0])}"
    if origin is dict:
        return "mapping"
    words = {
        str: "text",
        int: "whole number",
        float: "number",
        bool: "true or false",
        type(None): "null",
        Any: "any",
    }
    return words.get(kind, getattr(kind, "__name__", str(kind)))


@cache
def _comments(group: type) -> dict[str, str]:
    """The comment beside, or right above, each field of a dataclass and of those it is made from."""
    found: dict[str, str] = {}
    for owner in reversed(group.__mro__):
        if is_dataclass(owner):
            found |= _own_comments(owner)
    return found


def _own_comments(group: type) -> dict[str, str]:
    source = textwrap.dedent(inspect.getsource(group))
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = {t.start[0]: t.string.lstrip("# ").strip() for t in tokens if t.type == tokenize.COMMENT}
    lines = source.splitlines()
    found = {}
    for node in ast.parse(source).body[0].body:  # pyright: ignore[reportAttributeAccessIssue]
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            texts = [
                comments[i] for i in range(node.lineno, (node.end_lineno or node.lineno) + 1) if i in comments
            ]
            beside, at = bool(texts), node.lineno - 1
            while not beside and at in comments and lines[at - 1].strip().startswith("#"):
                texts.insert(0, comments[at])
                at -= 1
            found[node.target.id] = " ".join(texts)
    return found
