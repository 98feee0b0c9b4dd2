"""The sub-commands: one module each, named as the word that is typed, with `main(args) -> int`.

A sub-command is found by its file name, and the first line of its docstring is its help text. Modules import what is heavy
inside their functions, so that `--help` is immediate.
"""

import ast
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from tiny_ablation.errors import ConfigError, did_you_mean

_HERE = Path(__file__).parent


def names() -> list[str]:
    """The sub-commands, sorted, without importing any."""
    return sorted(path.stem for path in _HERE.glob("[a-z]*.py"))


def summaries() -> dict[str, str]:
    """What each sub-command does, in a sentence."""
    docs = {name: ast.get_docstring(ast.parse((_HERE / f"{name}.py").read_text(encoding="utf-8"))) for name in names()}
    return {name: (doc or "").partition("\n")[0] for name, doc in docs.items()}


def run(name: str, args: Sequence[str]) -> int:
    """Run one sub-command and return its exit code. Raises ConfigError: there is no such sub-command."""
    module = name.replace("-", "_")
    if module not in names():
        raise ConfigError(
            f"there is no sub-command {name}{did_you_mean(module, names())}; a run is given KEY=VALUE, such as dataset=facts; "
            f"sub-commands are {', '.join(names())}"
        )
    return import_module(f"{__name__}.{module}").main(list(args))
