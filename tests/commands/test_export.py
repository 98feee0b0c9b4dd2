"""A run as CSV, and as the graph of EAP-IG and MIB."""

import json
import shutil

import pandas as pd
import pytest

from tests.ledgers import adopt
from tiny_ablation import load_run
from tiny_ablation.cli import main
from tiny_ablation.errors import ResultsError
from tiny_ablation.report.node_graph import _edges, _layers, node_graph

TOY = (
    "model=toy",
    "tracking=off",
    "verify=off",
    "dataset.n_examples=12",
    "stats.n_boot=100",
    "stats.n_perm=100",
    "device.threads=1",
)
HEADS = [f"a{layer}.h{head}" for layer in range(2) for head in range(4)]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Runs of the toy model: heads at two factors, MLPs, part of the heads, attention, a circuit."""
    place = tmp_path_factory.mktemp("runs")
    for name, args in {
        "heads": ["ablation=heads_zero", "ablation.scales=[0.5,0.0]"],
        "mlp": ["ablation=mlp_zero"],
        "some": ["ablation=heads_zero", "ablation.layers=[1]"],
        "attention": ["ablation=attn_zero"],
        "p_drop": ["ablation=heads_zero", "ablation.scales=[0.0]", "metrics.primary=p_drop"],
        "entropy": ["ablation=heads_zero", "metrics.primary=entropy"],
        "last": ["ablation=heads_zero", "ablation.positions=last"],
        "circuit": ["ablation=circuit", f"ablation.from_run={place / 'heads'}"],
    }.items():
        assert main([*TOY, *args, f"hydra.run.dir={place / name}"]) == 0
    return place


def graph(cli, run, *args):
    result = cli("export", str(run), "--format", "mib", *args)
    assert result.code == 0, result.err
    return json.loads(result.out)


def test_csv_is_the_impact_table(cli, made, tmp_path):
    assert cli("export", str(made / "heads"), "--out", str(tmp_path / "x.csv")).code == 0
    assert cli("export", str(made / "heads")).out == (tmp_path / "x.csv").read_text()
    written, table = pd.read_csv(tmp_path / "x.csv"), load_run(made / "heads").impact
    assert list(written) == list(table)
    pd.testing.assert_frame_equal(written, table, check_dtype=False, check_exact=True)


@pytest.mark.parametrize(("name", "sign"), [("heads", -1), ("p_drop", 1)])
def test_a_head_scores_by_how_much_removing_it_harms(cli, made, name, sign):
    run = load_run(made / name)
    rows = run.impact[(run.impact["metric"] == run.summary["primary"]) & (run.impact["scale"] == 0.0)]
    effects = {f"a{r.layer}.h{r.head}": sign * r.delta for r in rows.itertuples()}
    nodes = graph(cli, made / name)["nodes"]
    assert {n: node["score"] for n, node in nodes.items() if "score" in node} == effects
    assert {n for n, node in nodes.items() if "score" not in node} == {"input", "m0", "m1", "logits"}
    assert all(node["in_graph"] for node in nodes.values())


def test_both_formats_are_one_and_mlps_are_nodes_too(cli, made):
    found = graph(cli, made / "mlp")
    assert json.loads(cli("export", str(made / "mlp"), "--format", "eap-ig").out) == found
    assert {n for n, node in found["nodes"].items() if "score" in node} == {"m0", "m1"}
    assert found["cfg"] == {"n_layers": 2, "n_heads": 4, "d_model": 32, "parallel_attn_mlp": False}


def test_a_circuit_keeps_its_heads_and_what_is_no_head(cli, made):
    kept = {n for n, node in graph(cli, made / "circuit", "--size", "2")["nodes"].items() if node["in_graph"]}
    rows = pd.read_parquet(made / "circuit/metrics/circuit.parquet")
    [text] = {*rows.loc[(rows["ranking"] == "signed") & (rows["size"] == 2), "heads"]}
    named = {f"a{label[1]}.h{label[3]}" for label in text.split()}
    assert kept == {"input", "logits", "m0", "m1", *named}
    assert len(named) == 2
    edges = graph(cli, made / "circuit", "--size", "2")["edges"]
    inside = {name.partition("->")[0] in kept and name.partition("->")[2].split("<")[0] in kept for name in edges}
    assert inside == {True, False}
    assert all(
        edge["in_graph"] == (a in kept and b.split("<")[0] in kept)
        for name, edge in edges.items()
        for a, _, b in [name.partition("->")]
    )


def test_the_fewest_heads_that_carry_are_taken_where_no_size_is_given(made, tmp_path):
    shutil.copytree(made / "circuit", tmp_path / "run")
    path = tmp_path / "run/metrics/circuit.parquet"
    rows = pd.read_parquet(path)
    rows.assign(carries=rows["size"] >= 4).to_parquet(path)
    adopt(tmp_path / "run")
    found = node_graph(load_run(tmp_path / "run", check=False), ranking="absolute")
    assert sum(node["in_graph"] for name, node in found["nodes"].items() if name in HEADS) == 4


def test_the_graph_has_as_many_nodes_and_edges_as_that_of_eap_ig():
    """GPT-2 small has 158 nodes and 32,491 edges (Hanna et al. 2024); a parallel MLP does not read the heads of its block."""
    small = {"n_layers": 12, "n_heads": 12, "parallel_attn_mlp": False}
    assert sum(map(len, _layers(small))) + 2 == 158
    edges = [*_edges(small)]
    assert len(edges) == len({*edges}) == 32_491
    assert len([*_edges(small | {"parallel_attn_mlp": True})]) == 32_491 - 12 * 12
    assert ("a3.h1", "m3", "") in edges
    assert ("m3", "a4.h0", "<k>") in edges
    assert ("m3", "a3.h0", "<k>") not in edges


@pytest.mark.parametrize(("shape", "parallel"), [("llama", False), ("gpt2", False), ("neox", True)])
def test_a_parallel_mlp_is_found_out(toy_networks, shape, parallel):
    assert toy_networks[shape].parallel is parallel


@pytest.mark.parametrize(
    ("name", "args", "words"),
    [
        ("some", (), ("4 of the model's nodes have no effect, such as a0.h0", "ablation.layers")),
        ("attention", (), ("no effects of whole heads or MLPs", "give a run of heads or MLPs")),
        ("last", (), ("no effects of whole heads or MLPs at all positions",)),
        ("entropy", (), ("entropy says neither way", "metrics.primary")),
        ("circuit", (), ("no circuit carries the behaviour; choose --size from 0, 1, 2, 4, 8",)),
        ("circuit", ("--size", "3"), ("no circuit of 3 heads",)),
        ("heads", ("--size", "3"), ("--size chooses a circuit",)),
        ("nothing", (), ("nothing",)),
    ],
)
def test_what_has_no_such_graph_is_refused(cli, made, name, args, words):
    result = cli("export", str(made / name), "--format", "mib", *args)
    assert result.code == 2
    assert not result.out
    assert all(word in result.err for word in words), result.err


def test_a_run_that_does_not_know_its_model_is_told(made, tmp_path):
    shutil.copytree(made / "heads", tmp_path / "run")
    content = json.loads((tmp_path / "run/provenance.json").read_text())
    content.pop("model_graph")
    (tmp_path / "run/provenance.json").write_text(json.dumps(content))
    with pytest.raises(ResultsError, match="does not say how large its model is; run again"):
        node_graph(load_run(tmp_path / "run", check=False))
