"""Compare two runs over the same sites and prompts: which effects differ, with intervals and q-values.

  tiny-ablate compare outputs/base outputs/tuned
  tiny-ablate compare outputs/base outputs/tuned --metric kl_div --json

Two models (a base and a fine-tuned one), two replacements, or two positions, on the same prompts. Each prompt is compared with
itself. Nothing is measured and nothing written.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tiny_ablation.commands._console import parser, say, say_json, table

_HIDDEN = ("seed", "condition", "tracking.", "profile.", "resume", "notes", "verify.")  # what changes no effect


def main(args: list[str]) -> int:
    """Print how two runs differ."""
    flags = parser("compare", __doc__)
    flags.add_argument("first", type=Path, metavar="RUN", help="the directory of a finished run")
    flags.add_argument("second", type=Path, metavar="RUN", help="of another one")
    flags.add_argument("--metric", help="default: the first run's primary metric")
    flags.add_argument("--top", type=int, default=10, help="how many sites are printed; default: 10")
    flags.add_argument("--json", action="store_true", help="print every site as JSON")
    given = flags.parse_args(args)
    import json

    from tiny_ablation.store.files import to_json
    from tiny_ablation.store.reader import load_run
    from tiny_ablation.store.untrusted import reading
    from tiny_ablation.sweep.analysis.two_runs import compare, differing_keys

    first, second = load_run(given.first), load_run(given.second)
    with reading(given.first), reading(given.second):
        found, differ = compare(first, second, given.metric), differing_keys(first, second)
        metric = given.metric or first.summary["primary"]
    if given.json:
        rows = json.loads(to_json(found.to_dict("records")))
        say_json({"metric": metric, "differ": differ, "sites": rows})
    else:
        say(*_lines(found, metric, differ, given.top))
    return 0


def _lines(found: Any, metric: str, differ: dict[str, tuple[Any, Any]], top: int) -> Iterator[str]:
    from tiny_ablation import formats
    from tiny_ablation.models.labels import site_label
    from tiny_ablation.stats.fdr import LEVEL

    for key, (one, other) in differ.items():
        if not key.startswith(_HIDDEN):
            yield f"{key}: {one} -> {other}"
    yield ""
    first = found.iloc[0]
    yield f"Change in {metric}, second run less first, on {first['n']} prompts in {first['n_groups']} groups that both measured"
    yield ""
    index = list(found.columns[: found.columns.get_loc("delta_first")])
    several = found["direction"].nunique() > 1
    rows = [["site", "first", "second", "difference", "95 % interval", "q"]]
    for _, row in found.head(top).iterrows():
        site = {name: row[name] for name in index if name != "scale" and (several or name != "direction")}
        numbers = [formats.signed(row[name], 3) for name in ("delta_first", "delta_second", "difference")]
        q = "-" if row["q_value"] != row["q_value"] else f"{row['q_value']:.3f}"
        rows.append([site_label(site), *numbers, formats.interval(row["ci_low"], row["ci_high"], 3), q])
    yield from table(rows)
    yield ""
    yield f"{(found['q_value'] <= LEVEL).sum()} of {len(found)} sites differ at a false discovery rate of {LEVEL:g}"
