"""What screening finds of the strongest heads, and at what cost: `python -m benchmarks.screening --out FILE`.

Every behaviour is run twice on the default model: with all heads measured, and with `ablation.screen=attribution`, at a tenth
of the runs. Recall is the share of the ten heads with the largest measured effects that the screening chose. Cost counts what
the two runs pushed through the model, a backward pass as two forward passes. `at` is what other numbers of heads would find.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import pandas as pd

from tiny_ablation import load_run
from tiny_ablation.cli import main as tiny_ablate
from tiny_ablation.data.corpus import family_names

TOP = 10
GRADIENT = 3  # runs: a forward pass and a backward pass over each prompt, against a forward pass for a head
SHARES = (0.1, 0.2, 0.3, 0.5)
Head = tuple[int, int]
COMMON = (
    "ablation=heads_zero", "ablation.scales=[0.0]", "metrics.names=[logit_diff]", "tracking=off", "verify=off",
    "stats.n_boot=100", "stats.n_perm=100",
)  # fmt: skip


def screened(family: str, n: int, chosen: int, random: int, model: str = "smollm2_135m") -> dict[str, Any]:
    """Recall and cost on one behaviour.

    Args:
        family: of prompts.
        n: prompts.
        chosen: heads that are measured for their estimate.
        random: heads that are measured besides, drawn at random.
        model: a name of the group `model`.
    """
    exact = _run(family, n, model)
    some = _run(
        family, n, model, "ablation.screen=attribution", f"ablation.screen_top={chosen}", f"ablation.screen_random={random}"
    )  # fmt: skip
    size = {head: abs(delta) for head, delta in exact["effects"].items()}
    strongest = sorted(size, key=lambda head: -size[head])[:TOP]
    found = [head for head in strongest if head in some["effects"]]
    cost = (len(some["effects"]) + GRADIENT) / len(exact["effects"])
    promising = sorted(some["estimates"], key=lambda head: -abs(some["estimates"][head]))
    return {
        "recall": len(found) / len(strongest), "runs": cost, "seconds": some["seconds"] / exact["seconds"],
        "at": {
            str(share): _share_in(promising[: max(0, round(share * len(size)) - GRADIENT)], strongest)
            for share in SHARES
        },
        "stated": some["stated"],
        "missed": [list(head) for head in strongest if head not in found],
    }  # fmt: skip


def _share_in(chosen: Sequence[Head], strongest: Sequence[Head]) -> float:
    return sum(head in chosen for head in strongest) / len(strongest)


def _run(family: str, n: int, model: str, *more: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as place:
        where = Path(place) / "run"
        args = (
            *COMMON,
            f"model={model}",
            f"dataset={family}",
            f"dataset.n_examples={n}",
            *more,
            f"hydra.run.dir={where}",
        )
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
            code = tiny_ablate(args)
        if code:
            raise SystemExit(f"{' '.join(args)} ended with code {code}")
        run = load_run(where)
        stages = json.loads((where / "metrics/profile.json").read_text())["stages"]
        rows = run.impact[run.impact["metric"] == "logit_diff"]
        return {
            "effects": _by_head(rows["layer"], rows["head"], rows["delta"]),
            "estimates": _estimates(run.dir.metrics / "attribution.parquet"),
            "seconds": stages["measure"]["wall_s"], "stated": run.summary["notes"].get("attribution"),
        }  # fmt: skip


def _estimates(path: Path) -> dict[Head, float]:
    """What gradients said of each head; empty where all heads were measured."""
    if not path.is_file():
        return {}
    table = pd.read_parquet(path)
    return _by_head(table["layer"], table["unit"], table["estimate"])


def _by_head(layers: Iterable[Any], heads: Iterable[Any], values: Iterable[Any]) -> dict[Head, float]:
    return {(int(a), int(b)): float(c) for a, b, c in zip(layers, heads, values, strict=True)}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.screening", description=str(__doc__).splitlines()[0]
    )
    parser.add_argument(
        "--families", nargs="+", default=[name for name in family_names() if name != "induction_tokens"]
    )
    parser.add_argument("--n", type=int, default=32)
    parser.add_argument("--top", type=int, default=20)
    parser.add_argument("--random", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path("outputs/bench/screening.json"))
    given = parser.parse_args()
    out: dict[str, Any] = {"n": given.n, "top": given.top, "random": given.random, "families": {}}
    for family in given.families:
        out["families"][family] = found = screened(family, given.n, given.top, given.random)
        print(
            f"{family:16} recall {found['recall']:.2f}, {found['runs']:.3f} of the runs, {found['seconds']:.3f} of the time",
            flush=True,
        )
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(json.dumps(out, indent=1) + "\n", encoding="utf-8")
    recalls = [found["recall"] for found in out["families"].values()]
    print(f"recall: mean {np.mean(recalls):.3f}, least {min(recalls):.2f}")


if __name__ == "__main__":
    main()
