"""Circuits from rankings of any tool, the smallest ones that a greedy search finds, and agreement with published ones."""

import itertools
import json
import random

import pytest
import torch
from hydra import compose, initialize_config_dir

from tests.ablations.conftest import checked
from tiny_ablation import app  # noqa: F401 (it registers the schema of every config group)
from tiny_ablation.ablations.circuit import CircuitConfig
from tiny_ablation.ablations.circuit.agreement import of_ranking
from tiny_ablation.ablations.circuit.greedy import Search
from tiny_ablation.ablations.circuit.published import PUBLISHED
from tiny_ablation.ablations.registry import find_ablation, run_spec
from tiny_ablation.ablations.shared.head_ranking import HeadRanking, ranking_of_file
from tiny_ablation.ablations.shared.replacements import Scale
from tiny_ablation.commands._selfcheck.circuits import truth_of, write_prompts
from tiny_ablation.config.settings import to_settings
from tiny_ablation.engine.edits import Edit, Intervention
from tiny_ablation.errors import ConfigError
from tiny_ablation.models.sources.toy_tokenizer import toy_tokenizer
from tiny_ablation.paths import conf_dir
from tiny_ablation.pipeline import run as carry_out
from tiny_ablation.report.node_graph import node_graph
from tiny_ablation.report.terminal import Screen
from tiny_ablation.store.reader import load_run

ABLATION = find_ablation("circuit")
COMMON = ("tracking=off", "verify=off", "stats.n_boot=200", "stats.n_perm=200")
HEADS = [(layer, head) for layer in range(2) for head in range(4)]


def run(directory, *overrides):
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("config", [*COMMON, *overrides])
    spec = run_spec(to_settings(cfg))
    carry_out(spec, directory, Screen(quiet=True))
    return load_run(directory), spec


def written(tmp_path, content):
    path = tmp_path / "ranking.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


GRAPH = {
    "cfg": {"n_layers": 2, "n_heads": 4},
    "nodes": {
        "input": {},
        "a0.h1": {"score": 2.0},
        "a1.h3": {"score": -3.0},
        "a1.h0": {"score": float("nan")},
        "m0": {"score": 9.0},
        "m1": {"score": None},
    },
    "edges": {},
}
EDGES = {
    "nodes": {"input": {"in_graph": True}, "a0.h1": {"in_graph": True}},
    "edges": {
        "a0.h1->m0": {"score": 1.5},
        "a0.h1->a1.h2<q>": {"score": -0.25},
        "input->a0.h1<q>": {"score": 5.0},
        "a1.h2->logits": {"score": 0.5},
        "m0->logits": {"score": 1.0},
    },
}


@pytest.mark.parametrize(
    ("content", "effects", "unused"),
    [
        (GRAPH, {(0, 1): 2.0, (1, 3): -3.0}, 1),
        (EDGES, {(0, 1): 1.25, (1, 2): 0.5}, 1),
        ({"L0H1": 0.5, "1.3": -2}, {(0, 1): 0.5, (1, 3): -2.0}, 0),
        (["L1H3", "0.2"], {(1, 3): 2.0, (0, 2): 1.0}, 0),
    ],
    ids=["nodes", "edges", "scores", "order"],
)
def test_every_form_of_a_ranking_is_read(tmp_path, toy_networks, content, effects, unused):
    found = ranking_of_file(written(tmp_path, content), toy_networks["llama"].shape)
    assert (found.effects, found.unused, found.metric) == (effects, unused, "score")
    assert found.ranked("signed") == sorted(effects, key=lambda head: -effects[head])
    assert found.ranked("absolute") == sorted(effects, key=lambda head: -abs(effects[head]))
    assert found.run_id.startswith("ranking.json ")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "cannot be read as JSON"),
        ("7", "give a graph with nodes"),
        ({"nodes": {"m0": {"score": 1.0}}}, "scores no head"),
        ({"L9H0": 1.0}, "there is no head L9H0"),
        ({"first": 1.0}, "'first' is not a head"),
        ({"L0H1": "much"}, "the score of L0H1 is 'much'"),
        ('{"L0H1": Infinity}', "the score of L0H1 is inf"),
        ({"L0H1": True}, "the score of L0H1 is True"),
    ],
)
def test_what_is_no_ranking_is_refused_by_its_entry(tmp_path, toy_networks, content, said):
    with pytest.raises(ConfigError, match=rf"ablation\.ranking=.*{said}"):
        ranking_of_file(written(tmp_path, content), toy_networks["llama"].shape)


def test_keys_that_do_not_fit_are_refused(tmp_path):
    for keys in ({}, {"from_run": "earlier", "ranking": written(tmp_path, ["L0H0"])}):
        with pytest.raises(ConfigError, match="name one of the two"):
            checked(ABLATION, CircuitConfig(kind="circuit", **keys))
    with pytest.raises(ConfigError, match=r"ablation\.ranking=none\.json: there is no such file"):
        checked(ABLATION, CircuitConfig(kind="circuit", ranking="none.json"))


def test_a_files_content_identifies_the_run(tmp_path):
    seen = set()
    for score in (1.0, 2.0):
        cfg = CircuitConfig(kind="circuit", ranking=written(tmp_path, {"L0H1": score}))
        seen.add(ABLATION.input_digest(cfg))
    assert len(seen) == 2


class Given(Search):
    """A search over values of f that stand ready."""

    def __init__(self, value):
        self.value, self.asked, self.runs = value, [], 0

    def f(self, circuits):
        self.asked += [frozenset(c) for c in circuits]
        return [self.value(frozenset(c)) for c in circuits]


def test_the_search_leaves_out_what_is_not_needed_and_nothing_else():
    needed = {(0, 1), (1, 2), (1, 3)}

    def value(heads):
        return len(heads & needed) / 3 + 0.01 * len(heads - needed)

    rng = random.Random(0)
    for _ in range(20):
        order = rng.sample(HEADS, len(HEADS))
        found = Given(value).minimal(order, len(order))
        assert set(found.heads) == needed
        assert found.f == pytest.approx(1.0)
        assert found.start == 1 + max(order.index(head) for head in needed)


def test_no_member_of_what_the_search_finds_can_be_taken_out_alone():
    """On arbitrary values, against trying every head of what was found."""
    rng = random.Random(1)
    for trial in range(20):
        table = {frozenset(c): rng.uniform(0.6, 1.4) for n in range(9) for c in itertools.combinations(HEADS, n)}
        found = Given(table.__getitem__).minimal(HEADS, 8)
        if not found.heads:
            assert all(abs(table[frozenset(HEADS[:n])] - 1) > 0.2 for n in range(1, 9))
            continue
        heads = frozenset(found.heads)
        assert abs(table[heads] - 1) <= 0.2, trial
        assert len(heads) == 1 or all(abs(table[heads - {head}] - 1) > 0.2 for head in heads)


def test_the_search_uses_no_more_heads_than_it_may():
    found = Given(lambda heads: float((1, 3) in heads)).minimal(HEADS, 7)
    assert (found.heads, found.f, found.start) == ((), None, 0)


@torch.no_grad()
def test_f_of_the_search_is_what_the_bare_model_gives(toy_networks, make_prompts):
    network = toy_networks["gpt2"]
    asked = make_prompts(network.shape.d_vocab, n=3)

    def keep(heads):
        edits = tuple(Edit("z", *head, Scale(0.0)) for head in HEADS if head not in heads)
        return Intervention(edits) if edits else None

    def mean(heads):
        total = 0.0
        for prompt in asked:
            handles = [
                block.attn.c_proj.register_forward_pre_hook(
                    _zeroing([h for at, h in HEADS if at == i and (at, h) not in heads])
                )
                for i, block in enumerate(network.hf.transformer.h)
            ]
            logits = network.hf(input_ids=torch.tensor([prompt.ids]), use_cache=False).logits[0, -1]
            for handle in handles:
                handle.remove()
            total += (logits[prompt.target[0]] - logits[prompt.foil[0]]).item()
        return total / len(asked)

    search = Search(network, asked, "logit_diff", False, keep)
    circuits = [[(0, 0), (1, 2)], [(1, 1)], HEADS]
    expected = [(mean(c) - mean([])) / (mean(HEADS) - mean([])) for c in circuits]
    assert search.f(circuits) == pytest.approx(expected, abs=5e-5)


def _zeroing(heads):
    def hook(_module, args):
        x = args[0].clone()
        width = x.shape[-1] // 4
        for head in heads:
            x[..., head * width : (head + 1) * width] = 0
        return (x,)

    return hook


PLANTED = ("model=planted", "dataset=induction_tokens", "dataset.n_examples=12")
HOW = ("ablation=circuit", "ablation.replacement=zero", "dataset.split=test", "ablation.members=0", "ablation.n_random=3")


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Circuits of the planted model from a ranking in a file, in which a decoy stands between the two true heads."""
    home = tmp_path_factory.mktemp("planted")
    scores = {"L0H2": 5.0, "L0H0": 4.0, "L1H1": 3.0} | {f"L1H{head}": -1.0 for head in (0, 2, 3)}
    ranking = written(home, scores)
    found, _ = run(
        home / "run",
        *PLANTED,
        *HOW,
        f"ablation.ranking={ranking}",
        "ablation.greedy=8",
        "ablation.rankings=[signed]",
        "ablation.fractions=[0.25,0.5]",
    )
    return home / "run", found.summary["circuit"]


@pytest.mark.slow
def test_a_ranking_that_was_exported_gives_the_same_areas(tmp_path):
    heads, _ = run(tmp_path / "heads", *PLANTED, "ablation=heads_zero", "ablation.scales=[0.0]", "dataset.split=dev")
    (tmp_path / "mib.json").write_text(json.dumps(node_graph(heads)))
    own, _ = run(tmp_path / "own", *PLANTED, *HOW, f"ablation.from_run={tmp_path / 'heads'}")
    other, _ = run(tmp_path / "other", *PLANTED, *HOW, f"ablation.ranking={tmp_path / 'mib.json'}")
    for by in ("signed", "absolute"):
        mine, theirs = (each.summary["circuit"]["rankings"][by] for each in (own, other))
        assert [mine[area]["value"] for area in ("cpr", "cmd")] == [theirs[area]["value"] for area in ("cpr", "cmd")]
    assert other.summary["circuit"]["ranked_by"]["run_id"].startswith("mib.json ")


def test_the_search_finds_the_planted_circuit_and_other_examples_confirm_it(planted):
    directory, found = planted
    [circuit] = found["named"]
    assert (circuit["circuit"], circuit["heads"]) == ("signed/minimal", "L0H2 L1H1")
    assert circuit["searched_f"] == pytest.approx(1.0, abs=1e-5)
    assert circuit["faithfulness"] == pytest.approx(1.0, abs=1e-5)
    assert circuit["left"] == pytest.approx(0.0, abs=1e-5)
    assert circuit["carries"]
    assert circuit["sufficiency_percentile"] == 100.0
    page = (directory / "report.html").read_text()
    assert "which does not tell the examples" in page
    assert "2 heads (L0H2 L1H1), of which none can be taken out" in page
    assert "which confirms it" in page


@pytest.mark.slow
@pytest.mark.parametrize("model", ["tracr_reverse", "tracr_histogram", "tracr_sort", "tracr_dyck"])
def test_the_search_takes_no_decoy_of_a_compiled_program(tmp_path, model):
    rows = write_prompts(model, tmp_path)
    data = (
        f"model={model}",
        "dataset=file",
        f"dataset.path={rows}",
        "dataset.allow_answer_in_prompt=true",
        "dataset.n_examples=12",
    )
    run(tmp_path / "heads", *data, "ablation=heads_zero", "ablation.scales=[0.0]")
    found, spec = run(
        tmp_path / "circuit",
        *data,
        "ablation=circuit",
        f"ablation.from_run={tmp_path / 'heads'}",
        "ablation.replacement=zero",
        "ablation.members=0",
        "ablation.n_random=0",
        "ablation.greedy=8",
        "ablation.rankings=[absolute]",
    )
    [circuit] = found.summary["circuit"]["named"]
    truth = truth_of(spec.settings.root.model)
    names = {f"L{layer}H{head}" for layer, head in truth.needed}
    assert set(circuit["heads"].split()) <= names
    assert circuit["carries"]


@pytest.mark.slow
def test_one_head_of_a_redundant_pair_is_enough(tmp_path):
    data = ("model=induction_pair", "dataset=induction_tokens", "dataset.n_examples=12")
    ranking = written(tmp_path, ["L0H0", "L0H1", "L1H0", "L1H1"])
    found, _ = run(
        tmp_path / "circuit",
        *data,
        "ablation=circuit",
        f"ablation.ranking={ranking}",
        "ablation.replacement=zero",
        "ablation.members=0",
        "ablation.n_random=0",
        "ablation.greedy=4",
        "ablation.rankings=[signed]",
    )
    [circuit] = found.summary["circuit"]["named"]
    heads = circuit["heads"].split()
    assert {"L1H0", "L1H1"} & {*heads}
    assert circuit["searched_f"] == pytest.approx(1.0, abs=0.2)


def test_agreement_is_that_of_the_order():
    published = PUBLISHED["ioi"]
    every = [(layer, head) for layer in range(12) for head in range(12)]
    others = [head for head in every if head not in published.heads]
    best, worst = [*published.heads, *others], [*others, *published.heads]
    assert (of_ranking(best, published)["found"], of_ranking(best, published)["auroc"]) == (26, 1.0)
    assert (of_ranking(worst, published)["found"], of_ranking(worst, published)["auroc"]) == (0, 0.0)
    assert of_ranking(worst, published)["p_value"] == 1.0
    assert of_ranking(best, published)["p_value"] < 1e-20
    found = [of_ranking(random.Random(seed).sample(every, 144), published) for seed in range(200)]
    mean = sum(each["found"] for each in found) / 200
    assert mean == pytest.approx(found[0]["chance"], abs=0.4)
    assert sum(each["p_value"] <= 0.05 for each in found) / 200 <= 0.1


def test_published_tables_are_whole():
    for name, published in PUBLISHED.items():
        layers, heads = published.size
        assert len(published.heads) == len({*published.heads}), name
        assert all(layer < layers and head < heads for layer, head in published.heads)
    assert [len(PUBLISHED[name].heads) for name in ("ioi", "greater_than", "docstring")] == [26, 9, 6]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size"), [("ioi", (12, 12)), ("greater_than", (12, 12)), ("docstring", (4, 8))])
def test_a_reproduction_ends_in_agreement_figures(tmp_path, name, size):
    """A random GPT-2 of the published size: the mechanics, from a ranking that has the published heads first."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    tokenizer = toy_tokenizer()
    layers, heads = size
    config = GPT2Config(n_layer=layers, n_head=heads, n_embd=2 * heads, n_inner=32, vocab_size=len(tokenizer), n_positions=256)
    model = GPT2LMHeadModel(config)
    for weight in model.parameters():
        if weight.dim() > 1:
            weight.data.normal_(0, 1.5 * weight.shape[-1] ** -0.5)
    model.save_pretrained(tmp_path / "gpt2")
    tokenizer.save_pretrained(tmp_path / "gpt2")
    published = PUBLISHED[name]
    ranking = written(tmp_path, [f"L{layer}H{head}" for layer, head in published.heads])
    data = ("model=local", f"model.path={tmp_path / 'gpt2'}", "dataset=facts", "dataset.n_examples=6")
    how = (
        "ablation=circuit",
        f"ablation.ranking={ranking}",
        "ablation.replacement=zero",
        "ablation.members=0",
        "ablation.n_random=2",
        "ablation.rankings=[signed]",
        f"ablation.reproduce={name}",
    )
    found, _ = run(tmp_path / "run", *data, *how)
    agreement = found.summary["circuit"]["published"]
    assert agreement["rankings"]["signed"]["found"] == len(published.heads)
    assert agreement["rankings"]["signed"]["auroc"] == 1.0
    assert {f["figure"] for f in agreement["figures"]} == {*published.figures}
    by_hand = found.per_example.groupby("set")["logit_diff"].mean()
    whole, empty = found.per_example["logit_diff_baseline"].mean(), by_hand["empty"]
    [row] = found.summary["circuit"]["named"]
    assert row["faithfulness"] == pytest.approx((by_hand["published/kept"] - empty) / (whole - empty), abs=1e-6)
    page = (tmp_path / "run/report.html").read_text()
    assert "Agreement with the published circuit" in page or not found.summary["circuit"]["defined"]


def test_a_model_of_another_size_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"the published heads are of GPT-2 small .*this model has 2 layers of 4"):
        run(
            tmp_path / "run",
            "model=toy",
            "dataset.n_examples=4",
            "ablation=circuit",
            "ablation.reproduce=ioi",
            f"ablation.ranking={written(tmp_path, ['L0H0'])}",
            "ablation.replacement=zero",
        )


def test_a_plan_says_what_the_search_takes(tmp_path, cli):
    ranking = written(tmp_path, ["L0H0", "L1H1"])
    args = ("model=toy", "dataset.n_examples=4", "ablation=circuit", f"ablation.ranking={ranking}", "ablation.greedy=3")
    [found] = cli("plan", *args, "--json").json()
    assert [*found["first"]] == ["the smallest circuits are searched"]


def test_scores_of_a_file_rank_the_larger_first():
    earlier = HeadRanking("f", "score", {(0, 0): -1.0, (0, 1): 2.0}, frozenset())
    assert earlier.ranked("signed") == [(0, 1), (0, 0)]
