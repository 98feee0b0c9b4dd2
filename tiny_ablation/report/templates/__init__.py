"""Pages: jinja2 templates that escape whatever is put into them, with one style sheet and one script."""

from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from tiny_ablation.report.figures import style

_HERE = Path(__file__).parent
_THEMES = {
    "light": {
        "ink": style.INK,
        "muted": style.MUTED,
        "line": style.LINE,
        "scale": style.DIVERGING,
        "swap": {},
    },
    "dark": {
        "ink": style.INK_DARK,
        "muted": style.MUTED_DARK,
        "line": style.LINE_DARK,
        "scale": style.DIVERGING_DARK,
        "swap": {
            style.BELOW: style.BELOW_DARK,
            style.ABOVE: style.ABOVE_DARK,
            style.INK: style.INK_DARK,
            style.MUTED: style.MUTED_DARK,
            style.LINE: style.LINE_DARK,
            **dict(zip(style.CATEGORIES, style.CATEGORIES_DARK, strict=True)),
        },
    },
}


def render(name: str, **values: Any) -> str:
    """The template `name` filled with `values`; a value that is missing is an error, not a blank."""
    return _environment().get_template(name).render(**values)


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals.update(
        css=Markup((_HERE / "page.css").read_text(encoding="utf-8")),
        script=Markup((_HERE / "page.js").read_text(encoding="utf-8")),
        themes=_THEMES,
    )
    return environment
