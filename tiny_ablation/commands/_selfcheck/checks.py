"""One line of the self-check: what was asked, what must come out, what came out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any


@dataclass(frozen=True)
class Check:
    """One check."""

    name: str  # what is checked
    subject: str  # on which model, or in which setting
    bar: str  # what must come out, in words; empty where the number is only told
    found: Any  # what came out: a number, or a number for each way
    ok: bool | None  # whether the bar is met; None where there is none
    shown: str  # `found` in words

    def content(self) -> dict[str, Any]:
        """As JSON."""
        return {"check": self.name, "subject": self.subject, "bar": self.bar or None, "found": self.found, "ok": self.ok}


def all_met(checks: Sequence[Check]) -> bool:
    """Whether no bar was missed."""
    return all(check.ok is not False for check in checks)


def markdown(checks: Sequence[Check]) -> Iterator[str]:
    """The checks as a table in Markdown."""
    yield from ("| what | where | must be | is |", "|---|---|---|---|")
    for check in checks:
        missed = " (missed)" if check.ok is False else ""
        yield f"| {check.name} | {check.subject} | {check.bar or 'told, no bar'} | {check.shown}{missed} |"


def table(checks: Sequence[Check]) -> Iterator[str]:
    """The checks as aligned lines, under a heading for each name; a bar that all of a name share stands there."""
    widths = [max(len(c.subject) for c in checks), max(len(c.shown) for c in checks)]
    for name, group in groupby(checks, key=lambda check: check.name):
        of_name = list(group)
        bars = {check.bar for check in of_name if check.bar}
        yield from ("", f"{name}: {bars.pop()}" if len(bars) == 1 else name)
        for check in of_name:
            cells = f"  {check.subject:<{widths[0]}}  {check.shown:<{widths[1]}}"
            verdict = {True: "ok", False: "MISSED", None: "told, no bar"}[check.ok]
            yield f"{cells}  {verdict}"
