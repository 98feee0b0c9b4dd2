"""What the strongest interventions do to single prompts: the text, the likeliest answer before and after, which flip."""

from collections.abc import Mapping
from typing import Any

from tiny_ablation import formats
from tiny_ablation.document import Section, Table
from tiny_ablation.models.labels import site_label
from tiny_ablation.store.files import read_json, read_table
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
    found = read_json(run.provenance).get("prompts") if run.provenance.is_file() else None
    texts = {each["id"]: each["text"] for each in found or () if "text" in each}  # earlier versions kept none
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
        site_name = site_label({column: site[column] for column in index})
        flips = rows[rows["prediction"] != rows["prediction_baseline"]]
        change = rows[primary] - rows[f"{primary}_baseline"]
        shown = rows.assign(change=change).loc[
            change.abs().sort_values(ascending=False, kind="stable").index[:prompts]
        ]
        first = shown.iloc[0]
        before, after = (str(first[name]).strip() for name in ("prediction_baseline", "prediction"))
        prompt, change = (
            _end(texts[first["example_id"]]["clean"], longest),
            formats.signed(first["change"], 3),
        )
        lines.append(
            f"{site_name} changes the likeliest next token of {len(flips)} of {len(rows)} prompts. It changes {primary} most "
            f"for “{prompt}”: {change}, from “{before}” to “{after}”."
        )
        cells = [_row(texts[row["example_id"]], row, longest) for _, row in shown.iterrows()]
        tables.append(
            Table(
                f"{site_name}: the prompts whose {primary} it changes most.",
                ("prompt", "right", "wrong", "change", "likeliest before", "likeliest after"),
                cells,
            )
        )
    return Section(title, lines, tables)


def _row(text: Mapping[str, str], row: Any, longest: int) -> list[str]:
    prompt, change = _end(text["clean"], longest), formats.signed(row["change"], 3)
    return [prompt, text["target"], text["foil"], change, row["prediction_baseline"], row["prediction"]]


def _end(prompt: str, longest: int) -> str:
    return prompt if len(prompt) <= longest else "… " + prompt[-longest:]
