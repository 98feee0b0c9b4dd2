"""How a run or a sweep shows itself in a notebook: a few facts and a small table, in the notebook's own style."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any


def shown(title: str, facts: Mapping[str, Any], head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """HTML of a heading, a line of facts and a table; every text is escaped.

    Args:
        title: what it is.
        facts: names and values.
        head: the names of the columns.
        rows: values; numbers are shown with four significant digits.
    """
    line = " · ".join(f"{escape(name)} <b>{escape(_text(value))}</b>" for name, value in facts.items())
    header = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(f"<tr>{''.join(f'<td>{escape(_text(v))}</td>' for v in row)}</tr>" for row in rows)
    return (
        f"<div><strong>{escape(title)}</strong><br>{line}"
        f"<table><thead><tr>{header}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
