"""Pages: jinja2 templates that escape whatever is put into them, with one style sheet and one script.

A page allows its own scripts alone to run, by a content security policy that names a number they carry: what got into the page
unescaped would not. The number follows from the page, so equal pages are equal to the byte, and no text in a page can know it.
"""

import hashlib
import re
import secrets
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from tiny_ablation.formats import NO_BREAK
from tiny_ablation.report.figures import style

_HERE = Path(__file__).parent
# Figures are drawn with styles of their own, saved as images, and fetch nothing.
_POLICY = (
    "default-src 'none'; script-src 'nonce-{}'; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; "
    "form-action 'none'"
)
_THEMES = {
    "light": {"ink": style.INK, "muted": style.MUTED, "line": style.LINE, "scale": style.DIVERGING, "swap": {}},
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
    unknown = secrets.token_hex(16)
    page = _environment().get_template(name).render(nonce=unknown, policy=_POLICY.format(unknown), **values)
    nonce = hashlib.sha256(page.replace(unknown, "").encode(errors="surrogatepass")).hexdigest()[:32]
    return page.replace(unknown, nonce)


def _prose(text: str) -> str:
    """Text of sentences, in which no line ends between a number and its `%`."""
    return re.sub(r"(?<=\d) (?=%)", NO_BREAK, text)


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
    environment.filters["prose"] = _prose
    environment.globals.update(
        css=Markup((_HERE / "page.css").read_text(encoding="utf-8")),
        script=Markup((_HERE / "page.js").read_text(encoding="utf-8")),
        themes=_THEMES,
    )
    return environment
