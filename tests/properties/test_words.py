"""No words call an effect what has an interval that includes 0, whatever the tables are."""

import io
import re
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console

from tests.fuzz.alter import Draws, one
from tests.properties.cases import cases
from tiny_ablation import formats
from tiny_ablation.ablations.circuit.sections import headline, lines
from tiny_ablation.report.answer import answer
from tiny_ablation.report.evidence import evidence_lines, evidence_tables
from tiny_ablation.report.findings import _bounds
from tiny_ablation.report.sweep_answer import sweep_answer
from tiny_ablation.report.sweep_data import Comparison, SweepData
from tiny_ablation.report.terminal import Screen
from tiny_ablation.store.sweepdir import SweepDir, SweepPlan

CLAIM = re.compile(r"\b(lowers?|raises?|changes|hurts?|helps?|keeps?|confirmed)\b")
NUMBERS = (0.0, -0.0, 1e-300, -1e-300, 0.5, -0.5, 1e9, -1e9, float("nan"))


def _number(draws: Draws) -> float:
    return one(draws, NUMBERS) if draws.integer(0, 1) else draws.integer(-300, 300) / 100


def _interval(draws: Draws) -> tuple[float, float]:
    low, high = _number(draws), _number(draws)
    return (high, low) if high < low else (low, high)


def _row(draws: Draws, layer: int) -> dict:
    low, high = _interval(draws)
    delta = _number(draws)
    return {
        "run_id": "r",
        "seed": 0,
        "layer": layer,
        "head": 0,
        "scale": 0.0,
        "metric": "logit_diff",
        "value": 1.0,
        "baseline": 1.0,
        "delta": 0.0 if np.isnan(delta) else delta,
        "shrunken": 0.5 * delta,
        "selected_low": low,
        "selected_high": high,
        "ci_shape": "interval",
        "ci_low": low,
        "ci_high": high,
        "p_value": 0.01,
        "q_value": one(draws, (0.01, 0.9, float("nan"))),
        "replacement": "zero",
        "direction": "clean",
    }


def _of_a_run(place: Path, draws: Draws) -> None:
    """The headline and sentences of a run name resolved sites only, and the terminal marks every other."""
    rows = [_row(draws, layer) for layer in range(draws.integer(1, 6))]
    sure = {f"L{r['layer']}H0" for r in rows if r["ci_low"] > 0 or r["ci_high"] < 0}
    found = answer(pd.DataFrame(rows), metric="logit_diff", use_q=bool(draws.integer(0, 1)))
    if CLAIM.search(found.headline):
        assert any(name in found.headline for name in sure)
    else:
        assert "No attention head has an effect" in found.headline
    if not sure:
        assert not CLAIM.search(" ".join(found.sentences))
    out = io.StringIO()
    console = Console(file=out, width=200)
    about = {"primary": "logit_diff", "null": "none", "family_size": 3, "resolution": None, "confidence": 0.95}
    Screen(out=console, err=console).table({"top": rows, **about})
    shown = [line for line in out.getvalue().splitlines() if re.match(r"\s+\d+\s+0\s", line)]
    assert [line.rstrip().endswith("unresolved") for line in shown] == [f"L{r['layer']}H0" not in sure for r in rows]
    for row in rows:
        assert _bounds(row, 3).endswith("(unresolved)") == (f"L{row['layer']}H0" not in sure)


def _of_a_sweep(place: Path, draws: Draws) -> None:
    """What a sweep says of its strongest site says so of each condition in which its interval includes 0."""
    n = draws.integer(2, 4)
    bounds = [_interval(draws) for _ in range(n)]
    low, high = (np.array([[b[i]] for b in bounds]) for i in (0, 1))
    delta = np.array([[_number(draws)] for _ in range(n)])
    names = [f"condition{i}" for i in range(n)]
    entry = {
        "table": "head_impact",
        "model": "toy",
        "metric": "logit_diff",
        "size": 1,
        "n_components": 5,
        "chance": [],
        "notes": [],
        "members": [{}],
        "agreement": None,
        "conditions": [{"size": 1}] * n,
    }
    comparison = Comparison(
        "head_impact",
        "toy",
        "logit_diff",
        names,
        ["examples"] * len(names),
        ((0, 0),),
        delta,
        low,
        high,
        np.ones((n, 1), bool),
        np.ones(1, bool),
        "12 examples",
        entry,
        {},
    )
    data = SweepData(SweepDir(place), SweepPlan("", (), ()), {}, {"k": 1, "op": "intersection"}, {}, (comparison,), {})
    [said] = [text for text in sweep_answer(data, comparison)[0].text if text.startswith("L0H0")]
    for name, held in zip(names, [formats.holds_zero(*b) for b in bounds], strict=True):
        assert (f"in {name} (unresolved: its interval includes 0)" in said) == held
    assert bool(CLAIM.search(said)) == (not all(formats.holds_zero(*b) for b in bounds))


def _of_evidence(place: Path, draws: Draws) -> None:
    """No site is confirmed, and no circuit keeps anything, on an interval that includes 0."""
    low, high = _interval(draws)
    holds, passed = formats.holds_zero(low, high), bool(draws.integer(0, 1))
    site = {
        "layer": 1,
        "head": 2,
        "delta_chosen": -0.5,
        "delta": -0.4,
        "ci_low": low,
        "ci_high": high,
        "q_value": 0.01,
        "confirmed": float(passed),
    }
    confirm = {
        "split": "test",
        "chosen_on": "dev",
        "n_examples": 9,
        "n_groups": 9,
        "resolution": None,
        "family_size": 1,
        "n_confirmed": int(passed),
        "sites": [site],
    }
    count = int(passed and not holds)
    assert f": {count} of 1 are confirmed" in evidence_lines({"confirm": confirm})[0]
    [table] = evidence_tables({"top": [], "confirm": confirm}, None)
    assert table.rows[0][-1] == ("yes" if count else "no")
    f = draws.integer(0, 150) / 100
    point = {
        "fraction": 0.5,
        "size": 5,
        "faithfulness": f,
        "faithfulness_low": low,
        "faithfulness_high": high,
        "random_faithfulness": 0.1,
        "sufficiency_percentile": 95.0,
        "left": 0.1,
        "left_low": 0.0,
        "left_high": 0.2,
        "random_left": 0.9,
        "necessity_percentile": 90.0,
        "carries": bool(draws.integer(0, 1)),
    }
    area = {"value": 0.8, "ci_low": 0.7, "ci_high": 0.9, "random_mean": 0.2, "n_random": 5, "percentile": 100.0}
    circuit = {
        "metric": "logit_diff",
        "n_heads": 10,
        "defined": True,
        "rankings": {"signed": {"cpr": area, "cmd": area, "points": [point], "members": []}},
    }
    carries = point["carries"]
    assert ("heads of the signed ranking" in headline(circuit)) == carries
    assert any("Its smallest circuit" in line for line in lines(circuit)) == carries


test_of_a_run = cases(60, 400)(_of_a_run)
test_of_a_sweep = cases(60, 300)(_of_a_sweep)
test_of_evidence = cases(60, 300)(_of_evidence)
