"""Which heads and layers a config names, checked against the model."""

from collections.abc import Sequence

from tiny_ablation.errors import ConfigError


def check_list(values: Sequence[object] | None, key: str) -> None:
    """Refuse a list that names nothing or names something twice.

    Raises:
        ConfigError: with the key and what to write instead.
    """
    if values is None:
        return
    if not values:
        raise ConfigError(f"{key} is an empty list, so there is nothing to ablate; name some, or write {key}=null for all")
    twice = sorted({str(v) for v in values if list(values).count(v) > 1})
    if twice:
        raise ConfigError(f"{key} names {', '.join(twice)} more than once")


def chosen(values: Sequence[int] | None, size: int, key: str, what: str) -> list[int]:
    """The indices that a config list names, ascending; all of them for null.

    Args:
        values: the list.
        size: how many the model has.
        key: the config key, for messages.
        what: what is counted, such as `heads`.

    Raises:
        ConfigError: an index is out of range.
    """
    check_list(values, key)
    if values is None:
        return list(range(size))
    wrong = [v for v in values if not 0 <= v < size]
    if wrong:
        raise ConfigError(f"{key}={list(values)}: this model has {size} {what}, 0 to {size - 1}; there is no {wrong[0]}")
    return sorted(values)


def check_positions(value: str, key: str = "ablation.positions", allowed: Sequence[str] = ("all", "last")) -> None:
    """Refuse a choice of positions that the kind does not have.

    Raises:
        ConfigError: with the choices.
    """
    if value not in allowed:
        raise ConfigError(f"{key}={value}: choose one of {', '.join(allowed)}")
