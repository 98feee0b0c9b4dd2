"""A few lines of YAML can stand for more than any memory holds: aliases of aliases, lists in lists in lists.

OmegaConf repeats the whole path of a value at each level of an error, so a thousand levels take gigabytes.
"""

from typing import Any

from tiny_ablation.errors import ConfigError, said

MOST = 100_000  # nodes of one file once its aliases are written out; a run's config has some hundred
DEEPEST = 40  # levels; a run's config has five


def check_yaml(text: str, where: object) -> None:
    """Refuse YAML that is nested too deeply, or whose aliases make it too large or part of itself.

    Text that plainly has neither aliases nor many levels is not parsed.
    """
    import yaml

    # Each level takes a bracket, a dash, a question mark or a step to the right.
    marks = sum(text.count(mark) for mark in ("[", "{", "- ", "? "))
    steps = max((len(line) - len(line.lstrip(" ")) for line in text.splitlines()), default=0)
    try:
        if marks + steps > DEEPEST and _depth(text) > DEEPEST:
            raise ConfigError(f"{where} is nested in more than {DEEPEST} levels, which no config is")
        size = _size(yaml.compose(text, Loader=yaml.SafeLoader), {}) if "*" in text else 0
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{where} cannot be read as YAML ({said(error)})") from error
    if size > MOST:
        raise ConfigError(f"{where}: its aliases (*name) stand for more than {MOST:,} values; write out what is meant")


def _depth(text: str) -> int:
    import yaml

    deepest = level = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        level += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        deepest = max(deepest, level)
        if deepest > DEEPEST:
            break
    return deepest


def _size(node: Any, known: dict[int, int]) -> int:
    """Nodes under a node, each alias counted as what it stands for; a node inside itself counts as too many."""
    if id(node) not in known:
        known[id(node)] = MOST + 1  # until it is counted: whoever meets it meanwhile is inside it
        parts = getattr(node, "value", ()) if not isinstance(getattr(node, "value", ""), str) else ()
        inner = [each for part in parts for each in (part if isinstance(part, tuple) else (part,))]
        known[id(node)] = 1 + sum(_size(each, known) for each in inner)
    return known[id(node)]
