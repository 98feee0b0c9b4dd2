"""List the sub-commands, or explain config keys and options.

tiny-ablate help                        the sub-commands
tiny-ablate help ablation=heads_zero    what an option does, and its keys
tiny-ablate help device                 the options of a group, and its keys
tiny-ablate help device.threads         one key
tiny-ablate help config                 every key, as Markdown (docs/reference.md)
"""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from tiny_ablation import commands
from tiny_ablation.ablations.registry import all_ablations, find_ablation
from tiny_ablation.commands._compose import composed
from tiny_ablation.commands._console import parser, say, say_page
from tiny_ablation.commands._reference import Line, header, keys, reference, shown
from tiny_ablation.config.schema import RootConfig
from tiny_ablation.errors import ConfigError, did_you_mean
from tiny_ablation.paths import conf_dir


def main(args: list[str]) -> int:
    """Print what each sub-command does, or explain a group, an option or a key."""
    flags = parser("help", __doc__)
    flags.add_argument("topic", nargs="?", help="`config`, GROUP, GROUP=OPTION or GROUP.KEY")
    topic: str | None = flags.parse_args(args).topic
    if topic is None:
        found = commands.summaries()
        width = max(map(len, found))
        say("tiny-ablate COMMAND --help tells more of each; tiny-ablate help GROUP explains config keys.", "")
        say(*(f"  {name:<{width}}  {text}" for name, text in found.items()))
    elif topic == "config":
        say_page(reference())
    elif "=" in topic:
        say(*_option(*topic.split("=", 1)))
    else:
        say(*_group_or_key(topic))
    return 0


def _option(group: str, option: str) -> Iterator[str]:
    """What an option does, and the keys of its group as it sets them."""
    from omegaconf import OmegaConf

    config = composed([f"{group}={option}"])
    yield from header(conf_dir() / group / f"{option}.yaml")
    node: Any = OmegaConf.select(config, group)
    kind: Any = OmegaConf.get_type(node)
    if not (isinstance(kind, type) and is_dataclass(kind)):  # an experiment sets keys of other groups
        return
    values = OmegaConf.to_container(node, enum_to_str=True)
    assert isinstance(values, dict)
    yield ""
    for line in keys(kind, f"{group}."):
        yield from _explained(line._replace(default=shown(values[line.name.partition(".")[2]])))


def _group_or_key(topic: str) -> Iterator[str]:
    """The options and keys of a group, or one key; a key that several ablations have is told with the first of them."""
    typed: list[tuple[str, Any]] = [("", RootConfig)]
    typed += [(f"{each.name}.", each.type) for each in fields(RootConfig) if is_dataclass(each.type)]
    typed += [("ablation.", find_ablation(name).config) for name in reversed([*all_ablations()])]
    known = {line.name: line for prefix, group in typed for line in keys(group, prefix)}
    if topic in known:
        yield from _explained(known[topic])
        return
    groups = [path.name for path in conf_dir().iterdir() if path.is_dir()]
    lines = [line for name, line in known.items() if name.startswith(f"{topic}.")]
    if topic not in groups and not lines:
        raise ConfigError(f"there is no config key or group {topic}{did_you_mean(topic, [*known, *groups])}")
    for path in sorted((conf_dir() / topic).glob("*.yaml")):
        yield f"  {topic}={path.stem}: {' '.join(header(path)[:1])}"
    for line in lines:
        yield from _explained(line)


def _explained(line: Line) -> Iterator[str]:
    yield f"  {line.name}={line.default}"
    yield f"      {line.help} ({line.values.replace('`', '')}{'' if line.defines else '; does not define the result'})"
