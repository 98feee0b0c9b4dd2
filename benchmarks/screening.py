"""What screening finds of the strongest heads, and at what cost: `python -m benchmarks.screening --out FILE`.

On every behaviour all heads of the default model are measured, and then as many as a tenth and a fifth of the runs allow,
chosen by `ablation.screen=attribution` with its pilot and without. Recall is the share of the ten heads with the largest
measured effects among the chosen ones. Runs are forward passes over all prompts; a backward pass counts as two.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pandas as pd

from tiny_ablation import load_run
from tiny_ablation.ablations.shared.pilot import ROUNDS
from tiny_ablation.cli import main as tiny_ablate
from tiny_ablation.data.corpus import family_names

TOP = 10
GRADIENT = 3  # runs: a forward pass and a backward pass over each prompt, against a forward pass for a head
SHARES = (0.1, 0.2)
Head = tuple[int, int]
COMMON = (
    "ablation=heads_zero",
    "ablation.scales=[0.0]",
    "metrics.names=[logit_diff]",
    "tracking=off",
    "verify=off",
    "stats.n_boot=100",
    "stats.n_perm=100",
)


def screened(family: str, n: int, model: str = "smollm2_135m") -> dict[str, dict[str, float]]:
    """For each share of the runs: recall, runs and heads measured, with a pilot and by gradients alone.

    Args:
        family: of prompts.
        n: prompts.
        model: a name of the group `model`.
    """
    size = {head: abs(delta) for head, delta in _run(family, n, model).effects.items()}
    strongest = sorted(size, key=lambda head: -size[head])[:TOP]
    out = {}
    for share in SHARES:
        budget = share * len(size)
        out[str(share)] = {"recall_gradients": _recall(strongest, family, n, model, int(budget) - GRADIENT, pilot=False)[0]}
        top = affordable(budget, len(size), n)
        recall, pilot = _recall(strongest, family, n, model, top, pilot=True)
        out[str(share)] |= {"recall": recall, "runs": (pilot + GRADIENT + top) / len(size), "heads": top}
    return out


def affordable(budget: float, n_heads: int, n: int) -> int:
    """How many heads may be measured in the end so that all stays within so many runs over `n` prompts."""
    for top in range(n_heads, 1, -1):
        done, pilot = 0, 0
        for i, (times, share) in enumerate(ROUNDS):
            count = min(n, max(2**i, round(share * n)))
            done, pilot = count, pilot + min(n_heads, times * top) * (count - done)
        if GRADIENT + top + pilot / n <= budget:
            return top
    return 1


def _recall(strongest: Sequence[Head], family: str, n: int, model: str, top: int, *, pilot: bool) -> tuple[float, float]:
    """The share of the strongest that are chosen, and how many runs the pilot took."""
    some = _run(
        family,
        n,
        model,
        "ablation.screen=attribution",
        f"ablation.screen_top={max(1, top)}",
        "ablation.screen_random=3",
        f"ablation.screen_pilot={str(pilot).lower()}",
    )
    return sum(head in some.chosen for head in strongest) / len(strongest), some.pilot


def _run(family: str, n: int, model: str, *more: str) -> "_Run":
    with tempfile.TemporaryDirectory() as place:
        where = Path(place) / "run"
        args = (*COMMON, f"model={model}", f"dataset={family}", f"dataset.n_examples={n}", *more, f"hydra.run.dir={where}")
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
            code = tiny_ablate(args)
        if code:
            raise SystemExit(f"{' '.join(args)} ended with code {code}")
        run = load_run(where)
        rows = run.impact[run.impact["metric"] == "logit_diff"]
        effects = {(int(a), int(b)): float(c) for a, b, c in zip(rows["layer"], rows["head"], rows["delta"], strict=True)}
        path, chosen = run.dir.metrics / "attribution.parquet", set()
        if path.is_file():
            table = pd.read_parquet(path)
            found = table[table["in_top"]]
            chosen = {(int(a), int(b)) for a, b in zip(found["layer"], found["unit"], strict=True)}
        return _Run(effects, chosen, run.summary["notes"].get("attribution", {}).get("pilot_runs", 0.0))


class _Run(NamedTuple):
    effects: dict[Head, float]
    chosen: set[Head]
    pilot: float


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.screening", description=str(__doc__).splitlines()[0])
    parser.add_argument("--families", nargs="+", default=[name for name in family_names() if name != "induction_tokens"])
    parser.add_argument("--n", type=int, default=32)
    parser.add_argument("--out", type=Path, default=Path("outputs/bench/screening.json"))
    given = parser.parse_args()
    out: dict[str, Any] = json.loads(given.out.read_text()) if given.out.is_file() else {"n": given.n, "families": {}}
    for family in given.families:
        out["families"][family] = found = screened(family, given.n)
        print(f"{family:16} {found}", flush=True)
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(json.dumps(out, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
