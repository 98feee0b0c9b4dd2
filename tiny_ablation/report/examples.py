"""What the strongest interventions do to single prompts: the text, the likeliest answer before and after, which flip."""

from collections.abc import Mapping
from typing import Any

from tiny_ablation import formats
from tiny_ablation.document import Section, Table
from tiny_ablation.models.labels import site_label
from tiny_ablation.store.files import read_json, read_table
from tiny_ablation.store.reader import by_change, texts_of
from tiny_ablation.store.rundir import RunDir
from tiny_ablation.store.schema import TABLES


def examples_section(
    run: RunDir, summary: Mapping[str, Any], *, sites: int = 3, prompts: int = 8, longest: int = 240
) -> Section:
    """The prompts that the strongest sites change most; empty where the run kept no text of its prompts.

    Args:
        run: its per-example table and its provenance are read.
        summary: the content of `metrics/summary.json`.
        sites: how many of the strongest sites.
        prompts: how many prompts of each.
        longest: characters of a prompt; of a longer one its end is shown, where the answer is read.
    """
    title, primary = "Examples", summary["primary"]
    texts = texts_of(read_json(run.provenance)) if run.provenance.is_file() else {}
    if not texts or not summary["top"] or not run.per_example.is_file():
        return Section(title)
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
        name = site_label({column: site[column] for column in index})
        n_flips = (rows["prediction"] != rows["prediction_baseline"]).sum()
        shown = by_change(rows, texts, primary).head(prompts)
        cells = [
            [_end(row["clean"], longest), row["target"], row["foil"], formats.signed(row["delta"], 3),
             row["prediction_baseline"], row["prediction"]] for _, row in shown.iterrows()
        ]  # fmt: skip
        prompt, _, _, change, *tokens = cells[0]
        before, after = (f"“{token.strip()}”" for token in tokens)
        moved = f"stays {after}" if before == after else f"goes from {before} to {after}"
        lines.append(
            f"{name} changes the likeliest next token of {n_flips} of {len(rows)} prompts. It changes {primary} most for "
            f"“{prompt}”: {change}, and the likeliest token {moved}."
        )
        head = ("prompt", "right", "wrong", "change", "likeliest before", "likeliest after")
        tables.append(Table(f"{name}: the prompts whose {primary} it changes most.", head, cells))
    return Section(title, lines, tables)


def _end(prompt: str, longest: int) -> str:
    return prompt if len(prompt) <= longest else "… " + prompt[-longest:]
