"""From Python: the command's numbers on models and rows in memory, interventions of one's own, and refusals."""

import json

import pandas as pd
import pytest
import torch

import tiny_ablation
from tiny_ablation import Edit, Intervention, Scale, ablate, load_run, measure
from tiny_ablation.errors import ConfigError, ModelError, ResultsError, UserError
from tiny_ablation.models.sources.toy import toy_llama

QUICK = {"tracking": "off", "n_boot": 200, "n_perm": 200, "threads": 1, "verify": "off"}
PLACES = [("France", " Paris"), ("Italy", " Rome"), ("Spain", " Madrid"), ("Greece", " Athens"), ("Poland", " Warsaw")]
ROWS = [
    {"id": f"row{i}", "clean": f"The capital of {place} is", "target": city, "foil": PLACES[i - 1][1], "group": place}
    for i, (place, city) in enumerate(PLACES)
]


@pytest.fixture
def edited():
    """The toy with a weight that no file of its holds."""
    model, tokenizer = toy_llama()
    model.model.layers[1].self_attn.o_proj.weight.data[3] *= 2
    return model.eval(), tokenizer


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TINY_ABLATE_CACHE", str(tmp_path / "cache"))


def logit_diff(model, tokenizer, row):
    ids = tokenizer(row["clean"])["input_ids"]
    target, foil = (tokenizer(row[name], add_special_tokens=False)["input_ids"][0] for name in ("target", "foil"))
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids])).logits[0, -1]
    return (logits[target] - logits[foil]).item()


def test_a_model_and_rows_in_memory_give_the_numbers_of_the_command(edited, cli, tmp_path):
    model, tokenizer = edited
    frame = pd.DataFrame(ROWS)
    run = ablate(model, frame, tokenizer=tokenizer, run_dir="mine", scales=[0.0], quiet=True, **QUICK)
    model.save_pretrained("saved")
    tokenizer.save_pretrained("saved")
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    done = cli(
        "model=local",
        "model.path=saved",
        "dataset=jsonl",
        "dataset.path=rows.jsonl",
        "ablation.scales=[0.0]",
        "tracking=off",
        "stats.n_boot=200",
        "stats.n_perm=200",
        "device.threads=1",
        "verify=off",
        "hydra.run.dir=theirs",
    )
    assert done.code == 0, done.err
    numbers = ["layer", "head", "metric", "value", "baseline", "delta", "ci_low", "ci_high", "p_value", "q_value"]
    pd.testing.assert_frame_equal(run.impact[numbers], load_run("theirs").impact[numbers])
    judged = [logit_diff(model, tokenizer, row) for row in ROWS]
    assert run.summary["baseline"]["logit_diff"]["mean"] == pytest.approx(sum(judged) / len(judged), abs=5e-5)


def test_a_run_goes_on_being_of_the_model_that_it_was_given(edited):
    model, tokenizer = edited
    how = {"tokenizer": tokenizer, "quiet": True, "scales": [0.0], **QUICK}
    ablate(model, ROWS, "heads_zero", run_dir="mine", **how)
    model.model.layers[0].mlp.down_proj.weight.data *= 2
    with pytest.raises(UserError, match="mine"):
        ablate(model, ROWS, "heads_zero", run_dir="mine", **how)


def test_interventions_of_ones_own_against_a_plain_hook(edited):
    model, tokenizer = edited
    both = Intervention((Edit("z", 0, 1, Scale(0.0)), Edit("mlp_out", 1, None, Scale(0.5), "last")))
    table = measure(
        model,
        ROWS,
        {"one": Edit("z", 0, 1, Scale(0.0)), "both": both},
        ["logit_diff", "kl_div"],
        tokenizer=tokenizer,
        device="cpu",
        threads=1,
    )
    assert list(table.columns) == ["intervention", "example_id", "metric", "baseline", "value", "delta"]
    assert len(table) == 2 * 2 * len(ROWS)
    heads = model.config.num_attention_heads
    width = model.model.layers[0].self_attn.o_proj.in_features // heads

    def zero(_module, args):
        x = args[0].clone()
        x[..., width : 2 * width] = 0
        return (x, *args[1:])

    def halve(_module, _args, output):
        output = output.clone()
        output[:, -1] *= 0.5
        return output

    first = model.model.layers[0].self_attn.o_proj.register_forward_pre_hook(zero)
    one = [logit_diff(model, tokenizer, row) for row in ROWS]
    second = model.model.layers[1].mlp.register_forward_hook(halve)
    two = [logit_diff(model, tokenizer, row) for row in ROWS]
    first.remove()
    second.remove()
    values = table.query("metric == 'logit_diff'").set_index(["intervention", "example_id"])["value"]
    for name, expected in (("one", one), ("both", two)):
        assert [values[name, row["id"]] for row in ROWS] == pytest.approx(expected, abs=5e-5)


def test_a_bridge_is_taken_and_one_with_processed_weights_refused(edited, tmp_path):
    from transformer_lens.model_bridge import TransformerBridge

    model, tokenizer = edited
    model.save_pretrained(tmp_path / "toy")
    tokenizer.save_pretrained(tmp_path / "toy")
    bridge = TransformerBridge.boot_transformers(str(tmp_path / "toy"), device="cpu")
    with torch.no_grad():
        bridge.original_model.get_output_embeddings().weight.mul_(1.5)
    found = measure(bridge, ROWS, [Edit("z", 0, 0, Scale(0.0))], threads=1)
    assert set(found["intervention"]) == {"L0H0.z"}
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(1.5)
    judged = [logit_diff(model, bridge.tokenizer, row) for row in ROWS]
    assert found["baseline"].tolist() == pytest.approx(judged, abs=5e-5)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ({"model": "smollm2_135n"}, "did you mean smollm2_135m"),
        ({"model": "toy", "data": "fact"}, "did you mean facts"),
        ({"model": "toy", "scale": [0.0]}, r"there is no key scale \(did you mean scales\?\)"),
        ({"model": "toy", "name": "x"}, "name is a key of several groups; say which: dataset.name, "),
        ({"model": "toy", "n_boot": "many"}, "n_boot"),
        ({"model": "toy", "tokenizer": 1}, "a named model has its own"),
        ({"model": object()}, "model is a object"),
        ({"model": toy_llama}, "model is a function"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(tmp_path, call, words):
    with pytest.raises(Exception, match=words) as error:
        ablate(**call, quiet=True)
    assert isinstance(error.value, (ConfigError, ModelError)) or "omegaconf" in type(error.value).__module__
    assert not list(tmp_path.iterdir())


def test_a_model_without_its_tokenizer_is_refused(edited):
    with pytest.raises(ModelError, match="needs its tokenizer"):
        ablate(edited[0], ROWS)


def test_what_is_offered_is_there():
    assert all(getattr(tiny_ablation, name) for name in tiny_ablation.__all__)


def test_a_run_is_read_by_site(edited):
    model, tokenizer = edited
    run = ablate(model, ROWS, "heads_zero", tokenizer=tokenizer, run_dir="mine", quiet=True, **QUICK)
    matrix = run.matrix()
    assert matrix.shape == (2, model.config.num_attention_heads)
    top = run.top(3)
    assert len(top) == 3
    strongest = top.iloc[0]
    assert abs(strongest["delta"]) == run._rows(None)["delta"].abs().max()
    if strongest["scale"] == 0:
        assert matrix.loc[strongest["layer"], strongest["head"]] == strongest["delta"]
    shown = run.examples(f"L{strongest['layer']}H{strongest['head']}", scale=strongest["scale"])
    assert set(shown["clean"]) == {row["clean"] for row in ROWS}
    assert shown["delta"].abs().is_monotonic_decreasing
    assert shown["delta"].mean() == pytest.approx(strongest["delta"], abs=1e-9)
    assert run.figure("head_map")._repr_png_().startswith(b"\x89PNG")
    with pytest.raises(ResultsError, match=r"no figure headmap \(did you mean head_map\?\)"):
        run.figure("headmap")
    with pytest.raises(ResultsError, match="measured nothing at L9H9"):
        run.examples("L9H9")
    with pytest.raises(ResultsError, match=r"no metric logitdiff \(did you mean logit_diff\?\); there are "):
        run.top(metric="logitdiff")
