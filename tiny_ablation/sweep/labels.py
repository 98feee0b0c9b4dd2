"""What the conditions of a sweep are called: by what varies between them, and by nothing else."""

import re
from collections.abc import Sequence

_FIRST = ("model", "dataset", "ablation")
_NEVER = "seed"


def varying(overrides: Sequence[Sequence[str]]) -> list[str]:
    """The keys that differ between jobs, `seed` included: model, dataset and ablation first, then as they were given.

    Args:
        overrides: of every job, `key=value` each.
    """
    values: dict[str, set[str]] = {}
    for job in overrides:
        for key, value in map(_split, job):
            values.setdefault(key, set()).add(value)
    differ = [key for key, found in values.items() if len(found) > 1]
    return sorted(differ, key=lambda key: _FIRST.index(key) if key in _FIRST else len(_FIRST))


def labels(overrides: Sequence[Sequence[str]]) -> list[str | None]:
    """The label of each job's condition, such as `facts`, or `gpt2/facts` when models vary too.

    An option of a group is called by its name, a single key by `key=value`. What would not do in a label (a path, a colon)
    is replaced by underscores.

    Returns:
        None for every job where nothing but the seed varies.
    """
    keys = [key for key in varying(overrides) if key != _NEVER]
    return ["/".join(_part(key, dict(map(_split, job))) for key in keys) or None for job in overrides]


def _part(key: str, values: dict[str, str]) -> str:
    value = re.sub(r"[^\w.,=+\[\]-]|\.\.", "_", values.get(key, "default"))
    return value if "." not in key else f"{key.rpartition('.')[2]}={value}"


def _split(override: str) -> tuple[str, str]:
    key, _, value = override.lstrip("+~").partition("=")
    return key.partition("@")[0], value.strip("'\"")
