"""A few lines of YAML can stand for more nodes than any memory holds: aliases of aliases of aliases."""

from typing import Any

from tiny_ablation.errors import ConfigError, said

MOST = 100_000  # nodes of one file once its aliases are written out; a run's config has some hundred


def check_aliases(text: str, where: object) -> None:
    """Refuse YAML whose aliases make it too large, or part of itself.

    Args:
        text: of the file. Without a `*` it has no alias and is not looked at.
        where: what to call it in the message.

    Raises:
        ConfigError: it is too large once aliases are written out.
    """
    import yaml

    if "*" not in text:
        return
    try:
        size = _size(yaml.compose(text, Loader=yaml.SafeLoader), {})
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{where} cannot be read as YAML ({said(error)})") from error
    if size > MOST:
        raise ConfigError(
            f"{where}: its aliases (*name) stand for more than {MOST:,} values; write out what is meant"
        )


def _size(node: Any, known: dict[int, int]) -> int:
    """Nodes under a node, each alias counted as what it stands for; a node inside itself counts as too many."""
    if id(node) not in known:
        known[id(node)] = MOST + 1  # until it is counted: whoever meets it meanwhile is inside it
        parts = getattr(node, "value", ()) if not isinstance(getattr(node, "value", ""), str) else ()
        inner = [each for part in parts for each in (part if isinstance(part, tuple) else (part,))]
        known[id(node)] = 1 + sum(_size(each, known) for each in inner)
    return known[id(node)]
