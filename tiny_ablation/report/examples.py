"""Single prompts: what the strongest interventions do to them, and what the strongest heads attend to and write on them."""

import json
from collections.abc import Callable, Iterable, Mapping
from itertools import takewhile
from typing import Any

from tiny_ablation import formats
from tiny_ablation.data.text import printable
from tiny_ablation.document import Section, Table
from tiny_ablation.models.labels import site_label
from tiny_ablation.run.effects import site_name
from tiny_ablation.store.files import read_json, read_table
from tiny_ablation.store.reader import by_change, texts_of
from tiny_ablation.store.rundir import RunDir
from tiny_ablation.store.schema import TABLES

_WORDS = 3  # of what a head attends to, promotes or suppresses


def examples_section(
    run: RunDir, summary: Mapping[str, Any], *, sites: int = 3, prompts: int = 8, longest: int = 240
) -> Section:
    """The prompts that the strongest sites change most; empty where the run kept no text of its prompts.

    `sites` and `prompts` are how many are shown. Of a prompt that is longer than `longest` characters the end is shown, where
    the answer is read, or what stands before an end that all prompts share.
    """
    title, primary = "Examples", summary["primary"]
    texts, shorten, foils = _prompts(run, longest)
    if not texts or not summary["top"] or not run.per_example.is_file():
        return Section(title)
    answers = [("right", "target"), *([("wrong", "foil")] if foils else [])]
    every: Any = read_table(run.per_example)
    index = next(table.index for name, table in TABLES.items() if run.table(name).is_file())
    tables, lines = [], []
    for site in summary["top"][:sites]:
        rows = every
        for column in (*index, "direction"):
            if column in site and column in rows:
                rows = rows[rows[column] == site[column]]
        if rows.empty or not rows["example_id"].isin(texts).all():
            continue
        name = site_name(site)
        cells, written, shown = [], "text" in rows, by_change(rows, texts, primary).head(prompts)
        if tables and not shown["delta"].any():  # it changes nothing at all
            continue
        places = formats.decimals(shown["delta"])
        for row in shown.to_dict("records"):
            prompt, change = shorten(row["clean"]), formats.signed(row["delta"], places)
            if written:
                cells.append([prompt, row["target"], *(printable(row[key]) for key in ("text_baseline", "text")), change])
            else:
                given = [row[field] for _, field in answers]
                cells.append([prompt, *given, change, row["prediction_baseline"], row["prediction"]])
        if written:
            changed = (rows["text"] != rows["text_baseline"]).sum()
            lines.append(
                f"With {name} intervened on while it writes, the model writes another text behind {changed} of {len(rows)} "
                "prompts."
            )
            head = ("prompt", "right", "written before", "written after", f"change of {primary}")
            caption = f"{name}: what is written behind the prompts whose {primary} it changes most."
            tables.append(Table(caption, head, cells))
            continue
        prompt, *_, change, before, after = cells[0]
        before, after = (f"“{token.strip()}”" for token in (before, after))
        moved = f"stays {after}" if before == after else f"goes from {before} to {after}"
        n_flips = (rows["prediction"] != rows["prediction_baseline"]).sum()
        lines.append(
            f"{name} changes the likeliest next token of {n_flips} of {len(rows)} prompts. It changes {primary} most for "
            f"“{prompt}”: {change}, and the likeliest token {moved}."
        )
        head = ("prompt", *(name for name, _ in answers), "change", "likeliest before", "likeliest after")
        tables.append(Table(f"{name}: the prompts whose {primary} it changes most.", head, cells))
    return Section(title, lines, tables)


def readouts_section(run: RunDir, *, heads: int = 3, prompts: int = 5, longest: int = 240) -> Section:
    """What the strongest heads attend to and write in clean runs; empty where the run did not read them.

    Shown are as many `heads`, and of each as many `prompts`, those first that it changes most; `longest` as in
    `examples_section`.
    """
    title = "What the strongest heads attend to and write"
    files = [run.metrics / f"{name}.parquet" for name in ("head_readouts", "head_prompts")]
    texts, shorten, foils = _prompts(run, longest)
    if not texts or not all(file.is_file() for file in files):
        return Section(title)
    means, of_prompts = (read_table(file) for file in files)
    means = means.set_index(["layer", "head"])
    tables, lines = [], []
    sites: list[Any] = list(of_prompts.groupby(["layer", "head"], sort=False))
    for (layer, head), rows in sites[:heads]:
        name, mean = site_label({"layer": layer, "head": head}), means.loc[(layer, head)]
        lines.append(_said_of_head(name, mean, foils))
        cells = []
        for row in rows.head(prompts).to_dict("records"):
            if text := texts.get(row["example_id"]):
                words = [_words(row["attended"], weights=True), *(_words(row[key]) for key in ("promoted", "suppressed"))]
                cells.append([shorten(text["clean"]), *words, formats.signed(row["direct"], 3)])
        how = "where its last token attends, the tokens whose logits it raises and lowers most, and the logits that it adds"
        columns = ("prompt", "attends to", "promotes", "suppresses", "right − wrong" if foils else "right")
        tables.append(Table(f"{name}: {how} to {_answer(foils)}.", columns, cells))
    return Section(title, lines, tables)


def _prompts(run: RunDir, longest: int) -> tuple[Mapping[str, Mapping[str, str]], Callable[[str], str], bool]:
    """The texts of a run's examples, what shortens a prompt to `longest` characters, and whether there are wrong answers."""
    texts = texts_of(read_json(run.provenance)) if run.provenance.is_file() else {}
    shorten = _shortener([text["clean"] for text in texts.values()], longest)
    return texts, shorten, any(text["foil"] for text in texts.values())


def _answer(foils: bool) -> str:
    return "the right answer over the wrong one" if foils else "the right answer"


def _said_of_head(name: str, mean: Any, foils: bool) -> str:
    said = (
        f"{name} adds {formats.signed(mean.direct, 3)} logits to {_answer(foils)} by what it writes itself "
        "(final norm's scale frozen; what later parts make of its output is not counted)."
    )
    if mean.to_first != mean.to_first:
        return said
    shares = [("the first token", mean.to_first), ("the token before", mean.to_previous), ("itself", mean.to_self)]
    attends = ", ".join(f"{share:.2f} to {where}" for where, share in shares)
    return f"{said} Mean attention of a token: {attends}; induction score {mean.induction:.2f}."


def _words(content: str, *, weights: bool = False) -> str:
    shown = []
    for entry in json.loads(content)[:_WORDS]:
        *_, word, weight = entry
        word = printable(word.strip() or word)
        shown.append(f"{word} {weight:.2f}" if weights else word)
    return ", ".join(shown)


def _shortener(prompts: Iterable[str], longest: int) -> Callable[[str], str]:
    """Cuts a prompt to its last characters, but for the end that all prompts share where that would take half of the room."""
    shared = sum(1 for _ in takewhile(lambda ends: len(set(ends)) == 1, zip(*map(reversed, prompts), strict=False)))
    cut = max(0, shared - longest // 3) if shared > longest // 2 else 0

    def shorten(prompt: str) -> str:
        if len(prompt) <= longest:
            return prompt
        kept = prompt[: len(prompt) - cut] if len(prompt) > shared else prompt
        after = " …" if len(kept) < len(prompt) else ""
        if len(kept) <= longest:
            return f"{kept}{after}"
        begins = len(kept) - longest
        if not kept[begins - 1].isspace():  # not in mid-word, in scripts that separate words by spaces
            begins = max(begins, kept.find(" ", begins, begins + longest // 3))
        return f"… {kept[begins:].lstrip()}{after}"

    return shorten
