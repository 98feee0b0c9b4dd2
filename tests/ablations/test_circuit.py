"""Circuits of a ranking: which sets are run, against the reference, and what they are worth on models where that is known."""

import importlib
import json

import numpy as np
import pytest
from hydra import compose, initialize_config_dir

from tests.ablations.conftest import checked
from tiny_ablation import app  # noqa: F401 (it registers the schema of every config group)
from tiny_ablation.ablations.circuit import CircuitConfig
from tiny_ablation.ablations.circuit.design import design
from tiny_ablation.ablations.registry import find_ablation, run_spec
from tiny_ablation.ablations.shared.head_ranking import HeadRanking
from tiny_ablation.config.settings import to_settings
from tiny_ablation.errors import ConfigError
from tiny_ablation.paths import conf_dir
from tiny_ablation.pipeline import run as carry_out
from tiny_ablation.report.terminal import Screen
from tiny_ablation.store.reader import load_run

ABLATION = find_ablation("circuit")

COMMON = ("tracking=off", "verify=off", "stats.n_boot=400", "stats.n_perm=200")
EFFECTS = {(0, 0): -0.1, (0, 1): 0.5, (0, 2): -2.0, (0, 3): 0.0, (1, 0): -1.0, (1, 1): 3.0, (1, 2): 0.2, (1, 3): -0.3}


def config(**keys):
    return CircuitConfig(kind="circuit", **{"from_run": "earlier", "replacement": "zero", "n_random": 3, "members": 2, **keys})


@pytest.fixture
def known_ranking(monkeypatch):
    """An earlier run with `EFFECTS` (or others), without running it."""

    def use(effects=EFFECTS, metric="logit_diff"):
        found = HeadRanking("r", metric, dict(effects), frozenset())
        module = importlib.import_module("tiny_ablation.ablations.circuit.design")  # the face has a function of this name
        monkeypatch.setattr(module, "head_ranking", lambda *_: found)

    use()
    return use


def run(directory, *overrides):
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("config", [*COMMON, *overrides])
    carry_out(run_spec(to_settings(cfg)), directory, Screen(quiet=True))
    return load_run(directory)


def test_signed_and_absolute_rankings(known_ranking):
    earlier = HeadRanking("r", "logit_diff", EFFECTS, frozenset())
    assert earlier.ranked("signed")[:3] == [(0, 2), (1, 0), (1, 3)]
    assert earlier.ranked("signed")[-1] == (1, 1)  # works against the behaviour
    assert earlier.ranked("absolute")[:3] == [(1, 1), (0, 2), (1, 0)]
    damage = HeadRanking("r", "kl_div", EFFECTS, frozenset())
    assert damage.ranked("signed")[0] == (1, 1)  # a divergence grows where the head is needed


def test_sizes_are_the_nearest_numbers_of_heads(toy_networks, known_ranking):
    plan = design(config(fractions=[0.001, 0.1, 0.2, 0.5, 1.0], members=3), toy_networks["llama"].shape, 0)
    assert [plan.size(f) for f in plan.fractions] == [0, 1, 2, 4, 8]
    assert plan.sizes() == [1, 2, 3, 4]
    assert plan.circuit("absolute", 3) == ((0, 2), (1, 0), (1, 1))


def test_heads_that_were_not_measured_come_last(toy_networks, known_ranking):
    known_ranking({(1, 1): 0.5, (0, 3): -0.1})
    plan = design(config(), toy_networks["llama"].shape, 0)
    assert plan.orders["absolute"][:3] == ((1, 1), (0, 3), (0, 0))
    assert sorted(plan.orders["signed"]) == sorted((layer, head) for layer in range(2) for head in range(4))


@pytest.mark.parametrize("replacement", ["zero", "mean"])
def test_agrees_with_the_reference(toy_networks, make_prompts, make_context, against_reference, known_ranking, replacement):
    network = toy_networks["llama"]
    context = make_context(network, make_prompts(network.shape.d_vocab, n=3))
    for arm in ABLATION.plan(config(replacement=replacement, rankings=["absolute"], fractions=[0.2, 0.5], n_random=1), context):
        assert against_reference(network, arm, stride=2) > 0.01


def test_what_is_run(toy_networks, make_prompts, make_context, known_ranking):
    network = toy_networks["llama"]
    named, *rest = ABLATION.plan(
        config(rankings=["absolute"], fractions=[0.25, 1.0]), make_context(network, make_prompts(network.shape.d_vocab))
    )
    heads = {row.key["set"]: {(e.layer, e.unit) for e in row.intervention.edits} for row in named.rows}
    every, circuit_heads = set(EFFECTS), {(0, 2), (1, 1)}
    assert heads == {"empty": every, "absolute/top_2/kept": every - circuit_heads, "absolute/top_2/removed": circuit_heads}
    kept, removed, members = rest
    assert (kept.controls_of, removed.controls_of) == ("absolute/top_2/kept", "absolute/top_2/removed")
    assert [r.sites for r in kept.rows] == [r.sites for r in removed.rows]  # the same random circuits in both roles
    assert all(sorted(s[:2] for s in r.sites.split()) == ["L0", "L1"] for r in kept.rows)
    sizes = [row.key["size"] for row in members.rows]
    assert sizes == [1, 1, 3, 3, 3]  # without each of two members, then with each of three others


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """A ranking on one split of the planted model, and its circuits on another."""
    home = tmp_path_factory.mktemp("planted")
    data = ("model=planted", "dataset=induction_tokens")
    run(home / "heads", *data, "ablation=heads_zero", "ablation.scales=[0.0]", "dataset.split=dev")
    circuits = run(
        home / "circuits",
        *data,
        "ablation=circuit",
        f"ablation.from_run={home / 'heads'}",
        "ablation.replacement=zero",
        "ablation.members=3",
        "dataset.split=test",
        "ablation.fractions=[0.125,0.25,0.5,1.0]",
    )
    return home, circuits


def test_the_true_heads_are_faithful_and_complete_and_decoys_do_not_matter(planted):
    _, found = planted
    for ranking in found.summary["circuit"]["rankings"].values():
        one, two, four, whole = ranking["points"]
        assert one["faithfulness"] < 0.2
        for point in (two, four, whole):  # the two true heads, then with two decoys, then all
            assert point["faithfulness"] == pytest.approx(1.0, abs=1e-6)
            assert point["left"] == pytest.approx(0.0, abs=1e-6)
        assert two["sufficiency_percentile"] == 100.0
        assert ranking["cpr"]["percentile"] == 100.0
        assert ranking["cmd"]["percentile"] == 0.0


def test_true_members_are_needed_and_a_decoy_is_not(planted):
    members = planted[1].summary["circuit"]["rankings"]["signed"]["members"]
    assert {(m["layer"], m["head"]) for m in members[:2]} == {(0, 2), (1, 1)}
    assert all(m["marginal"] > 0.9 and m["percentile"] == 100.0 for m in members[:2])
    assert members[2]["marginal"] == pytest.approx(0.0, abs=1e-6)
    assert members[2]["inflated_mean"] == pytest.approx(0.0, abs=1e-6)


def test_no_example_of_the_ranking_is_evaluated(planted):
    assert planted[1].summary["circuit"]["shared_examples"] == 0
    assert not [w for w in planted[1].summary["warnings"] if "ranked on" in w]


def test_figure_and_words_are_there(planted):
    home, _ = planted
    page = (home / "circuits/report.html").read_text()
    assert "The first 2 heads of the signed ranking, of 8, carry logit_diff" in page
    assert "CPR (area under f, larger is better)" in page
    assert (home / "circuits/artifacts/faithfulness.png").read_bytes()[:4] == b"\x89PNG"


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """Ranking and circuits on the same examples of the toy model, where heads work against each other."""
    home = tmp_path_factory.mktemp("toy")
    data = ("model=toy", "dataset.n_examples=12")
    run(home / "heads", *data, "ablation=heads_zero", "ablation.scales=[0.0]")
    return run(
        home / "circuits",
        *data,
        "ablation=circuit",
        f"ablation.from_run={home / 'heads'}",
        "ablation.members=2",
        "ablation.n_random=4",
        "ablation.fractions=[0.001,0.25,0.5,1.0]",
        "metrics.primary=kl_div",
    )


def test_everything_again_from_the_per_example_table(toy):
    """f, the areas and the random circuits, with plain means of what stands in the files."""
    mine = toy.per_example.groupby("set")["kl_div"].mean()
    full, empty = 0.0, mine["empty"]
    f = {name: (value - empty) / (full - empty) for name, value in mine.items()}
    for ranking, found in toy.summary["circuit"]["rankings"].items():
        nothing, two, four, whole = found["points"]
        curve = [0.0, f[f"{ranking}/top_2/kept"], f[f"{ranking}/top_4/kept"], 1.0]
        assert [p["faithfulness"] for p in (nothing, two, four, whole)] == pytest.approx(curve, abs=1e-6)
        assert two["left"] == pytest.approx(f[f"{ranking}/top_2/removed"], abs=1e-6)
        assert (nothing["left"], whole["left"]) == (1.0, 0.0)
        x = [0.001, 0.25, 0.5, 1.0]
        area = sum((b - a) * (p + q) / 2 for a, b, p, q in zip(x, x[1:], curve, curve[1:], strict=False))
        away = [abs(1 - v) for v in curve]
        distance = sum((b - a) * (p + q) / 2 for a, b, p, q in zip(x, x[1:], away, away[1:], strict=False))
        assert found["cpr"]["value"] == pytest.approx(area, abs=1e-6)
        assert found["cmd"]["uncorrected"] == pytest.approx(distance, abs=1e-6)
        random = [f[f"{ranking}/top_2/kept/random_{i}"] for i in range(4)]
        assert two["random_faithfulness"] == pytest.approx(np.mean(random), abs=1e-6)
        assert two["sufficiency_percentile"] == pytest.approx(100 * np.mean(np.array(random) < curve[1]))
        without = [f[f"{ranking}/changed_{i}"] for i in range(2)]
        assert [m["marginal"] for m in found["members"]] == pytest.approx([curve[1] - w for w in without], abs=1e-6)


def test_evaluating_on_the_examples_of_the_ranking_is_said(toy):
    assert any("12 of 12 examples are those that the heads were ranked on" in w for w in toy.summary["warnings"])


def test_areas_add_up_where_no_circuit_exceeds_the_model(planted):
    """CPR + CMD is the range of the fractions: f + |1 - f| = 1 for f <= 1."""
    for ranking in planted[1].summary["circuit"]["rankings"].values():
        assert max(p["faithfulness"] for p in ranking["points"]) <= 1 + 1e-9
        assert ranking["cpr"]["value"] + ranking["cmd"]["uncorrected"] == pytest.approx(1.0 - 0.125, abs=1e-9)


def test_one_group_of_examples_lets_no_circuit_carry_anything(tmp_path):
    """With one group there is no interval of the denominator, so nothing may be said of shares."""
    rows = [{"clean": f"alpha beta gamma {w}", "target": " red", "foil": " blue", "group": "one"} for w in ("x", "y", "z", "w")]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = ("model=toy", "dataset=jsonl", f"dataset.path={path}", "dataset.unscorable=skip", "metrics.span=full")
    run(tmp_path / "heads", *data, "ablation=heads_zero", "ablation.scales=[0.0]")
    found = run(
        tmp_path / "circuits",
        *data,
        "ablation=circuit",
        f"ablation.from_run={tmp_path / 'heads'}",
        "ablation.n_random=2",
        "ablation.replacement=zero",
        "ablation.members=2",
    )
    assert not found.summary["circuit"]["defined"]
    assert any("no circuit can be said to carry it" in w for w in found.summary["warnings"])
    points = [p for ranking in found.summary["circuit"]["rankings"].values() for p in ranking["points"]]
    assert not any(p["carries"] or p["faithfulness_low"] for p in points)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"from_run": None}, r"ablation\.from_run=DIR"),
        ({"replacement": "noise"}, r"ablation\.replacement=noise: choose one of mean, zero"),
        ({"rankings": ["signed", "other"]}, r"ablation\.rankings=.*signed, absolute"),
        ({"rankings": []}, r"ablation\.rankings"),
        ({"fractions": [0.5]}, r"ablation\.fractions"),
        ({"fractions": [0.5, 0.1]}, r"ablation\.fractions"),
        ({"fractions": [0.5, 1.5]}, r"ablation\.fractions"),
        ({"members": -1}, r"ablation\.members=-1"),
        ({"n_random": -1}, r"ablation\.n_random=-1"),
        ({"mean": "median"}, r"ablation\.mean=median"),
    ],
)
def test_wrong_settings_are_refused_before_the_model(keys, message):
    with pytest.raises(ConfigError, match=message):
        checked(ABLATION, config(**keys))
