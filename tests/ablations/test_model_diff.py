"""model_diff against hooks by hand on two bare models, on planted differences whose place is known, and its refusals."""

import json
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from tests.ablations.conftest import checked
from tests.engine.test_families import prompts
from tests.families import N_HEADS, hooked, n_units, saved, tiny
from tiny_ablation.ablations.patching.model_diff import ModelDiffConfig, Part, Take, Way
from tiny_ablation.ablations.registry import find_ablation, run_spec
from tiny_ablation.config.schema import DatasetConfig, MetricsConfig, ModelConfig, ModelSource, RootConfig, StatsConfig
from tiny_ablation.config.settings import to_settings
from tiny_ablation.data.corpus import load_corpus
from tiny_ablation.engine.bare.model import Bare
from tiny_ablation.engine.executor import Executor
from tiny_ablation.engine.reference import Reference
from tiny_ablation.errors import ConfigError, ModelError
from tiny_ablation.metrics.registry import metric
from tiny_ablation.models.loader import LoadedModel
from tiny_ablation.models.network import build_network
from tiny_ablation.models.sources.toy import toy_gpt2, toy_llama
from tiny_ablation.run.measure import executors, measure
from tiny_ablation.run.plan import PlanContext, ReferenceSet
from tiny_ablation.run.prepare import prepare_run
from tiny_ablation.run.tables import run_tables
from tiny_ablation.store.rundir import RunDir

ABLATION = find_ablation("model_diff")
FAMILIES = ("gemma3", "llama", "gpt2", "neox")


class TwoBare:
    """Two bare eager models of one family, by the names of the arms, and what a patched run of either gives, by hook."""

    def __init__(self, family):
        self.family = family
        self.hf = {"base": tiny(family), "tuned": tiny(family, seed=1)}

    def units(self, component):
        return n_units(self.family, component) if component == "z" else 1

    @torch.no_grad()
    def run(self, which, ids, written=(), keep=()):
        """Logits of the last token, and by (component, layer, unit) of `keep` what stands there, (tokens, width)."""
        model, seen = self.hf[which], {}

        def put(value, at):
            def change(x):
                new = x.clone()
                new[:, at] = value[at]
                return new

            return change

        def note(place):
            return lambda x: seen.setdefault(place, x[0].clone())[None] * 1.0

        with ExitStack() as stack:
            for (component, layer, unit), value, at in written:
                stack.callback(hooked(model, self.family, component, layer, put(value, at), unit).remove)
            for place in keep:
                component, layer, unit = place
                stack.callback(hooked(model, self.family, component, layer, note(place), unit).remove)
            logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]
        return logits, seen

    def patched(self, source, target, edit, prompt, take):
        """Logits of the target model with the source model's value at the edit's place."""
        everywhere = list(range(len(prompt.ids)))
        units = [edit.unit] if edit.unit is not None else range(self.units(edit.component))
        places = [(edit.component, edit.layer, unit) for unit in units]
        given = []
        if take is Take.weights:
            inputs = [("resid_pre", edit.layer, 0)]
            inputs += [("attn_out", edit.layer, 0)] if edit.component == "mlp_out" else []
            _, seen = self.run(target, prompt.ids, keep=inputs)
            given = [(place, seen[place], everywhere) for place in inputs]
        _, values = self.run(source, prompt.ids, given, places)
        at = [p for p in everywhere if prompt.covers(edit.positions, p)]
        return self.run(target, prompt.ids, [(place, values[place], at) for place in places])[0]


def networks_of(bare):
    out = []
    for which in ("base", "tuned"):
        hf = tiny(bare.family, seed=int(which == "tuned"), attn_implementation="sdpa")
        out.append(build_network(LoadedModel(bare.family, hf, toy_llama()[1], (), which, {})))
    return out


def context_of(networks, asked):
    held = ReferenceSet(asked, ["t"] * len(asked), ["train"] * len(asked), len(asked))
    return PlanContext(
        network=networks[0],
        other=networks[1],
        clean=asked,
        corrupt=[],
        groups=[p.name for p in asked],
        templates=["t"] * len(asked),
        seed=0,
        full=False,
        reference=lambda _n: held,
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_every_part_take_and_way_is_what_hooks_by_hand_give(name):
    """Both layouts, and the reference that verifies runs, within 5e-5."""
    bare, asked = TwoBare(name), [prompts()[i] for i in (0, 2)]
    networks, metrics, moved = networks_of(bare), [metric("logit_diff")], 0.0
    judges = {id(network): Bare(bare.hf[which]) for network, which in zip(networks, bare.hf, strict=True)}
    for i, (part, take) in enumerate((part, take) for part in Part for take in Take):
        cfg = ModelDiffConfig(
            kind="model_diff",
            granularity=part,
            take=take,
            positions=("all", "last", "subject")[i % 3],
            layers=[0, 1, 2][i % 2 :: 2],
            heads=[1, N_HEADS - 1] if part is Part.head_out else None,
        )
        for arm in ABLATION.plan(cfg, context_of(networks, asked)):
            runs = [row.intervention for row in arm.rows]
            source = "tuned" if arm.run == "base" else "base"
            network = arm.network or networks[0]
            assert network is networks[arm.run == "tuned"]
            reference = Reference(judges[id(network)], asked, metrics, others=judges)
            expected = torch.empty(len(runs), len(asked), dtype=torch.float64)
            for row, run in enumerate(runs):
                for column, prompt in enumerate(asked):
                    logits = bare.patched(source, arm.run, run.edits[0], prompt, take).double()
                    expected[row, column] = logits[prompt.target[0]] - logits[prompt.foil[0]]
                    again = reference.values(run, column)["logit_diff"]
                    assert again == pytest.approx(expected[row, column].item(), abs=5e-5), (run.label, arm.run)
            for shared in (True, False):
                for result in Executor(network, asked, runs, metrics, shared=shared):
                    found = result.values["logit_diff"]
                    columns = list(result.examples)
                    torch.testing.assert_close(found, expected[:, columns], atol=5e-5, rtol=0)
                    moved = max(moved, (found - result.baseline["logit_diff"]).abs().max().item())
    assert moved > 0.5


def at(path: Path, **keys: Any) -> ModelConfig:
    return ModelConfig(name="local", source=ModelSource.local, path=str(path), **keys)


def compared(base, tuned, directory, *, dataset: DatasetConfig, keys: Any = None, **more: Any) -> Any:
    """A finished comparison: the summary of the ablation, and the mean effect of every site by direction."""
    cfg = ModelDiffConfig(kind="model_diff", tuned=tuned, **more)
    root = RootConfig(
        model=base,
        dataset=dataset,
        ablation=cfg,
        metrics=MetricsConfig(names=["logit_diff"], primary="logit_diff"),
        stats=StatsConfig(n_boot=200, n_perm=200),
        **(keys or {}),
    )
    prepared = prepare_run(run_spec(to_settings(OmegaConf.structured(root))))
    measured = measure(prepared, RunDir(directory), executors(prepared), lambda _n: None)
    tables = run_tables(prepared, measured)
    effects = {
        m.arm.run: {
            f"L{row.key['layer']}H{row.key['head']}" if "head" in row.key else f"L{row.key['layer']}": float(d)
            for row, d in zip(m.arm.rows, np.abs(m.delta("logit_diff")).max(1), strict=True)
        }
        for m in measured
    }
    return SimpleNamespace(found=tables.analysis.summary["model_diff"], effects=effects, tables=tables, prepared=prepared)


def altered(source: Any, directory: Path, alter: Any) -> Path:
    """A copy of a Hugging Face directory with other weights."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    hf = AutoModelForCausalLM.from_pretrained(source)
    with torch.no_grad():
        alter(hf)
    hf.save_pretrained(directory)
    AutoTokenizer.from_pretrained(source).save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Directories of the planted model and of two copies in each of which one head of the circuit reads other values."""
    from tiny_ablation.models.identity import prepare

    base = prepare(ModelConfig(name="planted", source=ModelSource.planted, shape="planted")).directory
    root = tmp_path_factory.mktemp("planted")

    def weaker(layer, head):
        rows = slice(32 * head, 32 * (head + 1))
        return lambda hf: hf.model.layers[layer].self_attn.v_proj.weight[rows].mul_(0.3)

    return {"base": base} | {
        f"L{layer}H{head}": altered(base, root / f"L{layer}H{head}", weaker(layer, head)) for layer, head in ((0, 2), (1, 1))
    }


LETTERS = DatasetConfig(name="induction_tokens", family="induction_tokens", n_examples=24)


@pytest.mark.parametrize(("head", "take"), [("L1H1", Take.activations), ("L0H2", Take.weights)])
def test_a_planted_difference_of_one_head_is_found_and_no_other(planted, tmp_path, head, take):
    done = compared(at(planted["base"]), at(planted[head]), tmp_path / "run", dataset=LETTERS, take=take)
    others = [e for of in done.effects.values() for site, e in of.items() if site != head]
    assert len(others) == 2 * 7
    assert max(others) < 1e-4
    assert done.found["carriers"] == [head]
    first = done.found["sites"][0]
    assert first["recovered"] == pytest.approx(1, abs=1e-3)
    assert first["lost"] == pytest.approx(1, abs=1e-3)
    [section, *_] = ABLATION.sections({"model_diff": done.found})
    assert section.headline.startswith(f"1 of 8 heads carry the difference between the two models: {head} recovers 100 %")


@pytest.mark.slow
def test_activations_also_name_what_hands_the_difference_on(planted, tmp_path):
    """Head L1H1 copies what L0H2 tells it, so its values differ too, though its weights are the same."""
    done = compared(at(planted["base"]), at(planted["L0H2"]), tmp_path / "run", dataset=LETTERS)
    assert set(done.found["carriers"]) == {"L0H2", "L1H1"}


@pytest.fixture(scope="module")
def biased(tmp_path_factory):
    """A toy model, a copy whose MLP of either layer pushes one answer, and prompts that all ask about the same two answers."""
    root = tmp_path_factory.mktemp("biased")
    hf, tokenizer = toy_gpt2()
    for each in (hf, tokenizer):
        each.save_pretrained(root / "base")
    right, wrong = (tokenizer.convert_tokens_to_ids(word) for word in ("Monday", "Tuesday"))
    if right == tokenizer.unk_token_id:
        right, wrong = (tokenizer(f" {w}", add_special_tokens=False)["input_ids"][0] for w in ("Monday", "Tuesday"))
    rows = load_corpus(DatasetConfig(name="facts", family="facts"), seed=0).examples[:24]
    lines = [{"clean": e.clean, "target": " Monday", "foil": " Tuesday", "group": str(i)} for i, e in enumerate(rows)]
    (root / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    def pushing(layer):
        def alter(model):
            way = model.lm_head.weight[right] - model.lm_head.weight[wrong]
            model.transformer.h[layer].mlp.c_proj.bias += 3 * way / way.norm()

        return alter

    for layer in (0, 1):
        altered(root / "base", root / f"L{layer}", pushing(layer))
    dataset = DatasetConfig(name="file", family="file", path=str(root / "rows.jsonl"), unscorable=None)
    return SimpleNamespace(root=root, dataset=dataset)


@pytest.mark.parametrize(("layer", "take"), [(1, Take.activations), (0, Take.weights)])
def test_a_planted_difference_of_one_mlp_is_found_and_no_other(biased, tmp_path, layer, take):
    done = compared(
        at(biased.root / "base"),
        at(biased.root / f"L{layer}"),
        tmp_path / "run",
        dataset=biased.dataset,
        granularity=Part.mlp_out,
        take=take,
    )
    assert [e for of in done.effects.values() for site, e in of.items() if site != f"L{layer}"] == [0.0, 0.0]
    assert done.found["carriers"] == [f"layer {layer}, mlp_out"]
    assert done.found["difference"]["ci_low"] > 0


def test_the_depth_at_which_a_difference_arises_is_told(biased, tmp_path):
    done = compared(
        at(biased.root / "base"), at(biased.root / "L1"), tmp_path / "run", dataset=biased.dataset, granularity=Part.layer_resid
    )
    steps = done.found["depth"]["steps"]
    assert [step["step"] for step in steps] == pytest.approx([0, 1], abs=1e-4)
    depth = ABLATION.sections({"model_diff": done.found})[1]
    assert "The largest step is at block 1" in depth.headline


def test_where_the_models_do_not_differ_no_part_is_named(biased, tmp_path):
    done = compared(
        ModelConfig(name="toy", source=ModelSource.toy),
        ModelConfig(name="toy", source=ModelSource.toy, seed=1),
        tmp_path / "run",
        dataset=DatasetConfig(name="facts", family="facts", n_examples=12),
    )
    [section] = ABLATION.sections({"model_diff": done.found})
    assert not section.firm
    assert "cannot be told apart by logit_diff" in section.headline


def test_one_direction_still_tells_the_share(planted, tmp_path):
    done = compared(at(planted["base"]), at(planted["L1H1"]), tmp_path / "run", dataset=LETTERS, direction=Way.tuned_to_base)
    assert done.found["carriers"] == ["L1H1"]
    assert "lost" not in done.found["sites"][0]
    impact = done.tables.impact
    assert set(impact["direction"]) == {"tuned_to_base"}
    recovered = impact[(impact["metric"] == "recovered") & (impact["layer"] == 1) & (impact["head"] == 1)]
    assert recovered["value"].item() == pytest.approx(1, abs=1e-3)


@pytest.mark.slow
def test_heads_whose_output_projections_differ_are_warned_of(planted, tmp_path):
    tuned = altered(planted["base"], tmp_path / "tuned", lambda hf: hf.model.layers[1].self_attn.o_proj.weight.mul_(0.5))
    done = compared(at(planted["base"]), at(tuned), tmp_path / "run", dataset=LETTERS)
    assert done.found["carriers"] == []
    [warning] = done.tables.analysis.warnings
    assert "output projection of layer 1" in warning
    assert "ablation.granularity=attn_out" in warning
    whole = compared(at(planted["base"]), at(tuned), tmp_path / "whole", dataset=LETTERS, granularity=Part.attn_out)
    assert whole.found["carriers"] == ["layer 1, attn_out"]
    assert not whole.tables.analysis.warnings


@pytest.mark.slow
def test_an_adapter_is_a_second_model(biased, tmp_path):
    peft: Any = pytest.importorskip("peft")
    from transformers import AutoModelForCausalLM

    hf = AutoModelForCausalLM.from_pretrained(biased.root / "base")
    how = peft.LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["c_fc"], layers_to_transform=[1])
    adapted = peft.get_peft_model(hf, how)
    torch.manual_seed(0)
    for name, tensor in adapted.named_parameters():
        if "lora_" in name:
            tensor.data = tensor + torch.randn_like(tensor)
    adapted.save_pretrained(tmp_path / "lora")
    done = compared(
        at(biased.root / "base"),
        at(tmp_path / "lora", base=str(biased.root / "base")),
        tmp_path / "run",
        dataset=biased.dataset,
        granularity=Part.mlp_out,
        take=Take.weights,
    )
    assert done.effects["base"]["L0"] == 0
    assert done.effects["base"]["L1"] > 0.01
    assert done.prepared.other.model.weights_hash.startswith("lora:")


def test_what_identifies_the_second_model_identifies_the_run(cli, planted):
    """A directory holds a run of these weights, and refuses another's: the message names what differs."""
    args = [
        "model=local",
        f"model.path={planted['base']}",
        "ablation=model_diff",
        "dataset=induction_tokens",
        "dataset.n_examples=8",
        "tracking=off",
        "stats.n_boot=200",
        "stats.n_perm=200",
        "hydra.run.dir=run",
    ]
    done = cli(*args, f"ablation.tuned.path={planted['L1H1']}")
    assert done.code == 0, done.err
    manifest = json.loads(Path("run/manifest.json").read_text())
    assert manifest["covers"]["other_weights"].startswith("files:")
    assert json.loads(Path("run/metrics/verify.json").read_text())["verdict"] == "ok"
    assert json.loads(Path("run/provenance.json").read_text())["other_weights_hash"].startswith("files:")
    again = cli(*args, f"ablation.tuned.path={planted['L0H2']}", "ablation.tuned.name=L1H1")
    assert again.code == 2
    assert "weights of the second model" in again.err
    same = cli(*args, f"ablation.tuned.path={planted['base']}")
    assert same.code == 2
    assert "have the same weights" in same.err
    planned = cli("plan", *args[:-1], f"ablation.tuned.path={planted['L1H1']}", "--json")
    assert planned.json()[0]["interventions"] == 16


def test_models_that_do_not_fit_are_refused_by_what_differs(tmp_path, biased):
    small, wide = saved("llama", tmp_path / "a"), saved("llama", tmp_path / "b", num_hidden_layers=2)
    facts = DatasetConfig(name="facts", family="facts", n_examples=4)
    with pytest.raises(ModelError, match=r"models a and b are not of one shape: n_layers is 3 and 2; layers is"):
        compared(at(small), at(wide), tmp_path / "run", dataset=facts)
    from transformers import AutoTokenizer

    opened = saved("llama", tmp_path / "c", opening="<sop>", vocab_size=len(AutoTokenizer.from_pretrained(small)))
    with pytest.raises(ModelError, match="prompts begin with the tokens"):
        compared(at(small), at(opened), tmp_path / "run", dataset=facts)


def test_keys_that_do_not_fit_are_refused():
    local = ModelConfig(name="local", source=ModelSource.local)
    with pytest.raises(ConfigError, match=r"give ablation\.tuned\.path=DIR"):
        checked(ABLATION, ModelDiffConfig(kind="model_diff", tuned=local))
    toy = ModelConfig(name="toy", source=ModelSource.toy)
    with pytest.raises(ConfigError, match=r"ablation\.granularity=mlp_out patches whole layers"):
        checked(ABLATION, ModelDiffConfig(kind="model_diff", tuned=toy, granularity=Part.mlp_out, heads=[0]))


def test_a_second_model_that_cannot_be_had_is_called_so(tmp_path):
    facts = DatasetConfig(name="facts", family="facts", n_examples=4)
    with pytest.raises(ModelError, match=r"the second model: .* does not exist"):
        compared(ModelConfig(name="toy", source=ModelSource.toy), at(tmp_path / "none"), tmp_path / "r", dataset=facts)


def test_a_file_may_not_let_the_second_model_run_code(tmp_path):
    from tiny_ablation.config.file_keys import check_file

    with pytest.raises(ConfigError, match=r"ablation\.tuned\.trust_remote_code"):
        check_file(OmegaConf.create({"ablation": {"tuned": {"trust_remote_code": True}}}), "x.yaml")
    check_file(OmegaConf.create({"ablation": {"tuned": {"path": "x"}}}), "x.yaml")
