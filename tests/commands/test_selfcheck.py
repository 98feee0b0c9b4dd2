"""The self-check passes on the tool as it is, and misses its bars on a tool that is broken."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from tiny_ablation.ablations import single_site
from tiny_ablation.ablations.circuit import analysis
from tiny_ablation.ablations.shared.replacements import Scale
from tiny_ablation.commands import selfcheck
from tiny_ablation.commands._selfcheck import circuits, simulate, simulate_claims, simulate_sweeps
from tiny_ablation.commands._selfcheck.checks import Check, all_met, table
from tiny_ablation.commands._selfcheck.circuits import Workshop, auroc
from tiny_ablation.commands._selfcheck.simulate import Trial, check_trials
from tiny_ablation.commands._selfcheck.simulate_sweeps import N_HEADS
from tiny_ablation.run import site_statistics
from tiny_ablation.stats.cluster_t import cluster_t
from tiny_ablation.stats.clusters import Intervals, cluster_sums
from tiny_ablation.stats.halves import TopSets
from tiny_ablation.stats.means import BY_WILD, Means, cluster_means, null_of

HALF = "200 groups, one with half of the examples"


@pytest.fixture(autouse=True)
def few_examples(monkeypatch):
    monkeypatch.setattr(circuits, "N_EXAMPLES", 24)


@pytest.fixture
def zero_only(monkeypatch):
    monkeypatch.setattr(circuits, "KINDS", {"zero": circuits.KINDS["zero"]})


@pytest.fixture
def few_draws(monkeypatch):
    """One row of each kind, with as many families as tell a fault from chance."""
    rows = {row.text: row for row in simulate.INTERVALS}
    intervals = [rows[name] for name in ("12 groups of 4, normal", HALF, "rate 0.03, 12 groups of 4")]
    no_effect, twenty = simulate.FAMILIES[0], [row for row in simulate.FAMILIES if row.power][-1]
    monkeypatch.setattr(simulate, "INTERVALS", [replace(row, n_families=8) for row in intervals])
    monkeypatch.setattr(
        simulate, "FAMILIES", [replace(no_effect, n_sites=60, n_families=60, most=0.1), replace(twenty, n_families=4)]
    )
    monkeypatch.setattr(simulate, "STRONGEST", [12])
    monkeypatch.setattr(simulate, "N_STRONGEST", 8)
    monkeypatch.setattr(simulate_claims, "TRIALS", [])


@pytest.mark.slow
def test_the_planted_circuit_and_a_program_are_found(cli):
    result = cli("selfcheck", "--only", "planted", "tracr_sort", "--out", "found.json", "device.threads=1")
    assert result.code == 0, result.out + result.err
    assert result.out.count(" ok") == 6
    assert "All 6 bars met." in result.out
    content = json.loads(Path("found.json").read_text())
    assert content["ok"] is True
    ranks, _, dead, _, planted, program = content["checks"]
    assert planted["found"]["heads"] == ["L0H2", "L1H1"]
    assert program["found"]["f"] == pytest.approx(1.0, abs=0.2)
    assert ranks["found"] == {"zero": 1.0, "mean": 1.0, "resample": 1.0}
    assert ranks["bar"] == "1.000"
    assert dead["found"] == {"zero": 0.0, "mean": 0.0, "resample": 0.0}


def test_the_redundant_pair_is_found_by_pairs_and_missed_by_single_heads(cli):
    result = cli("selfcheck", "--only", "induction_pair", "--json")
    assert result.code == 0
    pairs, singles = result.json()["checks"]
    assert pairs["found"]["top"] == "L1H0 + L1H1"
    assert pairs["found"]["interaction_low"] > 0.5
    assert max(singles["found"].values()) < 0.25


def test_a_replacement_that_changes_nothing_misses_the_bar(cli, monkeypatch, zero_only):
    monkeypatch.setattr(Scale, "value", lambda _self, current, _source, _edit: current.clone())
    result = cli("selfcheck", "--only", "tracr_sort")
    assert result.code == 1
    assert "0.500" in result.out
    assert "2 of 3 bars missed" in result.out


@pytest.mark.slow
def test_a_shuffled_head_axis_misses_both_bars(cli, monkeypatch, zero_only):
    edit = single_site.Edit
    monkeypatch.setattr(
        single_site, "Edit", lambda component, layer, head, *rest: edit(component, layer, (head + 1) % 4, *rest)
    )
    result = cli("selfcheck", "--only", "tracr_sort", "--json")
    assert result.code == 1
    assert [check["ok"] for check in result.json()["checks"]][:2] == [False, False]


def test_a_pair_that_no_kind_sees_misses_the_bar(cli, monkeypatch):
    monkeypatch.setattr(Scale, "value", lambda _self, current, _source, _edit: current.clone())
    result = cli("selfcheck", "--only", "induction_pair")
    assert result.code == 1


COVERAGE, TEST, FALSE = ("Coverage of 95 % intervals", "p <= 0.05 without an effect", "False discoveries at q <= 0.05")
POWER, SELECTED, SHRUNKEN = (
    "Power at q <= 0.05",
    "Coverage of intervals that allow for the choice",
    "Shrunken size over true size",
)


def test_statistics_keep_what_they_promise(cli, few_draws):
    result = cli("selfcheck", "--only", "statistics", "--json")
    assert {c["check"] for c in result.json()["checks"]} == {COVERAGE, TEST, FALSE, POWER, SELECTED, SHRUNKEN}
    assert result.code == 0, result.out


def _narrow(*args: Any, **options: Any) -> Means:
    mean, low, high, p = cluster_means(*args, **options)
    return Means(mean, mean + 0.8 * (low - mean), mean + 0.8 * (high - mean), p)


def _students_t(sums: Any, sizes: Any, **options: Any) -> Means:
    """Of unequal groups: too wide where one is half of all."""
    if null_of(sums, sizes) != BY_WILD:
        return cluster_means(sums, sizes, **options)
    mean, error, freedom = cluster_t(sums, sizes)
    half = stats.t.ppf(0.975, freedom) * error
    return Means(mean, mean - half, mean + half, 2 * stats.t.sf(abs(mean) / error, freedom))


def _rates_as_means(sums: Any, sizes: Any, confidence: float) -> Intervals:
    found = cluster_means(sums, sizes, rng=np.random.default_rng(0), confidence=confidence)
    return Intervals(found.low, found.high)


def _only_what_passes_the_first_step(p: Any, *_: Any) -> Any:
    """Twelve groups give no sign-flip p-value below 1 / 2048, which 270 heads do not let pass as the smallest."""
    return np.full(len(p), np.nan)


def _as_if_not_chosen(sums, *_args, **_how):
    """Intervals that widen no other."""
    return np.full(len(sums), np.inf), np.full(len(sums), -np.inf)


FAULTS = {
    "intervals that are too narrow": ("cluster_means", _narrow, {COVERAGE}),
    "rates by the intervals of means": ("rate_intervals", _rates_as_means, {COVERAGE}),
    "Student's t for unequal groups": ("cluster_means", _students_t, {COVERAGE}),
    "groups that are ignored": (
        "cluster_sums",
        lambda deltas, groups: cluster_sums(deltas, range(len(groups))),
        {COVERAGE, TEST, FALSE},
    ),
    "no correction for many heads": ("q_values", lambda p, *_: p, {FALSE}),
    "q-values that are withheld": ("q_values", _only_what_passes_the_first_step, {POWER}),
    "no allowance for the choice": ("selected_intervals", _as_if_not_chosen, {SELECTED}),
    "raw sizes": ("_shrunken", lambda sums, sizes, _: sums.sum(1) / sizes.sum(), {SHRUNKEN}),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_method_that_does_not_hold_misses_its_bar(cli, monkeypatch, few_draws, fault):
    name, method, bars = FAULTS[fault]
    monkeypatch.setattr(site_statistics, name, method)
    result = cli("selfcheck", "--only", "statistics", "--json")
    assert result.code == 1
    assert {check["check"] for check in result.json()["checks"] if check["ok"] is False} == bars


def _independent(_: str, sums: Any, sizes: Any, __: float) -> Intervals:
    """The interval of independent examples, of variance 2."""
    mean, error = sums.sum(1) / sizes.sum(), (2 / sizes.sum()) ** 0.5
    return Intervals(mean - 1.96 * error, mean + 1.96 * error)


def _sign_flips(sums: Any, sizes: Any, **_: Any) -> Means:
    """The test of symmetry that was one of the mean, too: every group's sign is flipped."""
    signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(2000, sums.shape[1]))
    p = (abs(signs @ sums.T) >= abs(sums.sum(1)) - 1e-12).mean(0)
    mean = sums.sum(1) / np.broadcast_to(sizes, sums.shape).sum(1)
    return Means(mean, mean, mean, p)


def _permuted(a: Any, b: Any, rng: np.random.Generator, n_draws: int) -> float:
    """Groups change sides: equal means and unequal variances are not told apart."""
    (x, _), (y, _), both = a, b, np.hstack([a[0] * a[0].shape[1], b[0] * b[0].shape[1]])
    n = x.shape[1]
    orders = rng.permuted(np.tile(np.arange(both.shape[1]), (n_draws, 1)), axis=1)
    drawn = [((both[:, o[:n]].mean(1) - both[:, o[n:]].mean(1)) ** 2).sum() for o in orders]
    return float((np.array(drawn) >= ((x.sum(1) - y.sum(1)) ** 2).sum()).mean())


def _drawn_from_itself(values: Any, _: Any, k: int, n_splits: int, rng: np.random.Generator) -> TopSets:
    """The top set beside those of draws from the same sample."""

    def top(columns: Any) -> set[int]:
        return set(np.argsort(-abs(values[:, columns].mean(1)))[:k].tolist())

    n = values.shape[1]
    own, drawn = top(np.arange(n)), [top(rng.integers(0, n, n)) for _ in range(n_splits)]
    overlap = float(np.mean([len(own & each) / len(own | each) for each in drawn]))
    return TopSets(overlap, *np.zeros((2, len(values))))


def _any_f_from_80_percent(curves: Any, ranking: str, made: Any = analysis.circuit_table) -> Any:
    table = made(curves, ranking)
    return table.assign(carries=table["faithfulness"] >= 0.8)


def _unsigned(self: Any, above: Any, made: Any = analysis.Curves.ratios, **options: Any) -> Any:
    found = made(self, above, **options)
    return found._replace(ratio=abs(found.ratio))


def _uncorrected(deltas: Any, _: Any) -> Any:
    return deltas.mean(1) / deltas.std(1, ddof=1)


CIRCUIT, SWEEP = "ablations.circuit", "sweep.analysis"
TRIAL_FAULTS: dict[str, tuple[str, Any, str, str]] = {
    "seeds whose wordings are not known": (
        f"{SWEEP}.pooled.pooled_intervals",
        _independent,
        simulate_sweeps.COVERS,
        "10 seeds",
    ),
    "top sets without a test": (f"{SWEEP}.invariants.conjunction_q", lambda *_: None, simulate_sweeps.CONSERVED, "log-sd"),
    "random sets as the only chance": (f"{SWEEP}.overlap_chances._of_flips", lambda _: [], simulate_sweeps.CHANCE, "log-sd"),
    "p-values as q-values of pairs": ("ablations.pairs.interaction.q_values", lambda p, _: p, simulate_sweeps.INTERACTS, ""),
    "one replacement as good as all": (
        f"{SWEEP}.robustness.same_sign_everywhere",
        lambda p, _: p.min(0) / N_HEADS,
        simulate_sweeps.HOLDS,
        "",
    ),
    "sign flips in every condition": (f"{SWEEP}.examples.cluster_means", _sign_flips, simulate_sweeps.IN_ALL, "negative"),
    "profiles by permuted groups": ("stats.profiles.unpaired_profiles", _permuted, simulate_sweeps.DIFFERS, "sd 3"),
    "CMD with the bias of noise": (
        f"{CIRCUIT}.curves.absolute_without_bias",
        lambda halves: abs(halves).mean((0, 1)),
        simulate_claims.CMD,
        "",
    ),
    "any f from .8 on carries": (
        f"{CIRCUIT}.analysis.circuit_table",
        _any_f_from_80_percent,
        simulate_claims.CARRIES,
        "f 1.41",
    ),
    "the first f that passes carries": (
        f"{CIRCUIT}.analysis.circuit_table",
        _any_f_from_80_percent,
        simulate_claims.CARRIES,
        "f 0.8",
    ),
    "members without a test": (f"{CIRCUIT}.analysis.q_values", lambda p, _: 0 * p, simulate_claims.NEEDED, "as it is"),
    "members by size alone": (f"{CIRCUIT}.curves.Curves.ratios", _unsigned, simulate_claims.NEEDED, "rises"),
    "what was missed as in the sample": (
        "ablations.shared.agreement._upper_share",
        lambda hits, n: hits / n,
        simulate_claims.RECALL,
        "",
    ),
    "stability of draws from the same sample": (
        "stats.halves.top_set_agreement",
        _drawn_from_itself,
        simulate_claims.STABLE,
        "small effects",
    ),
    "effect sizes as they come": ("stats.effect_size.standardised", _uncorrected, simulate_claims.SIZE, ""),
}
# How often a row is simulated here, where four times do not tell a fault from chance.
MORE = {
    simulate_sweeps.IN_ALL: 150,
    simulate_claims.NEEDED: 20,
    simulate_claims.CMD: 60,
    simulate_claims.STABLE: 60,
    simulate_claims.RECALL: 40,
}


def _few(trial: Trial) -> Trial:
    return replace(trial, n=MORE.get(trial.name, 4), high=trial.high if trial.low or trial.name in MORE else 0.5)


@pytest.mark.parametrize("fault", TRIAL_FAULTS)
def test_a_claim_that_does_not_hold_misses_its_bar(monkeypatch, tmp_path, fault):
    name, method, row, text = TRIAL_FAULTS[fault]
    monkeypatch.setattr(f"tiny_ablation.{name}", method)
    trial = [t for t in simulate_claims.TRIALS if t.name == row and text in t.text][-1]
    [check] = check_trials(Workshop(tmp_path), [_few(trial)])
    assert check.ok is False, check.shown


@pytest.mark.slow
def test_claims_keep_their_bars(cli, monkeypatch):
    for rows in ("INTERVALS", "FAMILIES", "STRONGEST"):
        monkeypatch.setattr(simulate, rows, [])
    trials = {trial.name: trial for trial in simulate_claims.TRIALS if "ratio" not in trial.text}
    monkeypatch.setattr(simulate_claims, "TRIALS", [_few(trial) for trial in trials.values()])
    checks = cli("selfcheck", "--only", "statistics", "--json").json()["checks"]
    assert {check["check"] for check in checks} == set(trials)
    assert [check for check in checks if check["ok"] is False] == []


def test_more_can_be_simulated(tmp_path):
    size = next(trial for trial in simulate_claims.TRIALS if trial.name == simulate_claims.SIZE)
    [check] = check_trials(Workshop(tmp_path, times=3), [replace(size, n=2)])
    assert check.shown.endswith(" in 6")


def test_the_table_of_the_documentation_has_every_row():
    page = (Path(__file__).parents[2] / "docs" / "metrics-and-statistics.md").read_text()
    rows = [*simulate.INTERVALS, *simulate.FAMILIES, *simulate_claims.TRIALS]
    assert [row.text for row in rows if f"| {row.text} |" not in page] == []
    assert "(missed)" not in page


@pytest.mark.slow
def test_statistics_of_a_large_run_are_fast_and_slow_ones_are_told(cli, monkeypatch):
    assert cli("selfcheck", "--only", "speed").code == 0
    monkeypatch.setattr(simulate, "SECONDS", 0.0)
    assert cli("selfcheck", "--only", "speed").code == 1


def test_prompts_of_the_programs_can_be_run_by_hand(cli, tmp_path):
    result = cli("selfcheck", "--prompts", "prompts")
    assert result.code == 0
    assert len(result.out.split()) == 4
    rows = [json.loads(line) for line in Path("prompts/tracr_dyck.jsonl").read_text().splitlines()]
    assert len(rows) > 150
    for row in rows:
        assert {row["target"], row["foil"]} == {" True", " False"}
        assert len(row["clean"].split()) == len(row["corrupt"].split())


@pytest.mark.parametrize(
    ("args", "said"), [(("--only", "poems"), "tracr_dyck"), (("model=toy",), "only device="), (("--times", "0"), "--times=0")]
)
def test_wrong_input(cli, args, said):
    result = cli("selfcheck", *args)
    assert result.code == 2
    assert said in result.err


def test_auroc_by_hand():
    strength = {(0, 0): 3.0, (0, 1): 1.0, (1, 0): 1.0, (1, 1): 0.0}
    # (0, 0) beats both; (0, 1) ties with (1, 0) and beats (1, 1).
    assert auroc(strength, [(0, 0), (0, 1)], [(1, 0), (1, 1)]) == 3.5 / 4


def test_a_check_without_a_bar_cannot_be_missed():
    told = Check("Coverage", "hard", "", 0.5, None, "0.500")
    missed = replace(told, bar="0.93 to 0.97", ok=False)
    assert all_met([told])
    assert not all_met([told, missed])
    assert list(table([told, missed])) == ["", "Coverage: 0.93 to 0.97", "  hard  0.500  told, no bar", "  hard  0.500  MISSED"]


def test_parts_are_the_models_and_the_statistics():
    programs = ["tracr_dyck", "tracr_histogram", "tracr_reverse", "tracr_sort"]
    assert [*selfcheck.PARTS] == ["planted", *programs, "induction_pair", "statistics", "speed"]
