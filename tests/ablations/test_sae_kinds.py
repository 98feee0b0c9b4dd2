"""Training and toggling as kinds: against the reference, with a planted answer, and whole runs."""

import json
import shutil

import numpy as np
import pytest
import torch

from tests.ablations.conftest import checked
from tests.sae.known import known, recovered
from tiny_ablation.ablations.registry import find_ablation
from tiny_ablation.ablations.sae.toggle import SaeToggleConfig
from tiny_ablation.ablations.sae.train import SaeTrainConfig
from tiny_ablation.commands import _compose
from tiny_ablation.config.schema import SaeConfig
from tiny_ablation.config.seeds import generator
from tiny_ablation.engine.executor import Executor
from tiny_ablation.engine.prompts import Prompt
from tiny_ablation.errors import ConfigError
from tiny_ablation.metrics.registry import metric
from tiny_ablation.run.plan import PlanContext
from tiny_ablation.sae.loading import read
from tiny_ablation.sae.trained import recipe, trained

TOGGLE, TRAIN = find_ablation("sae_toggle"), find_ablation("sae_train")

RECIPE = {"width": 24, "k": 3, "context": 16, "own_samples": 2, "batch": 32, "steps": 30, "tokens": 320, "held_out": 256}


@pytest.fixture
def text(tmp_path, monkeypatch):
    monkeypatch.setenv("TINY_ABLATE_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    words = ["France", "Paris", "Mary", "John", "drink", "store", "capital", "city", "Japan", "Tokyo"]
    path = tmp_path / "text.txt"
    path.write_text("".join(" ".join(rng.choice(words, 12)) + f" {rng.random()}\n" for _ in range(120)))
    return path


def context(network, clean, corrupt=None, seed=0):
    return PlanContext(
        network=network,
        clean=clean,
        corrupt=corrupt or clean,
        groups=[p.name for p in clean],
        templates=["t"] * len(clean),
        seed=seed,
        full=False,
        reference=lambda _: None,
    )


@pytest.mark.parametrize("how", [{}, {"error_term": "drop", "scales": [0.0, 2.0]}, {"mode": "add", "positions": "last"}])
def test_every_leg_against_the_reference(toy_networks, against_reference, make_pairs, text, how):
    network = toy_networks["llama"]
    clean, corrupt = make_pairs(300)
    cfg = SaeToggleConfig(candidates=6, controls=3, text_tokens=256, sae=SaeConfig(corpus=str(text), **RECIPE), **how)
    checked(TOGGLE, cfg)
    arms = TOGGLE.plan(cfg, context(network, clean, corrupt))
    assert len(arms[0].rows) == 6 * len(cfg.scales or [0])
    moved = [against_reference(network, arm, stride=2) for arm in arms]
    assert moved[0] > 1e-3
    assert moved[1] > 1e-2  # the reconstruction alone
    assert moved[-1] < 5e-5  # with its error, nothing
    assert {arm.controls_of for arm in arms} == {"", "random features", "matched features"}
    named = {row.key["feature"] for row in arms[0].rows}
    for arm in arms[2:-1]:
        assert not named & {row.key["feature"] for row in arm.rows}


def sparse_network(network, directions):
    """The toy model as a look-up: nothing but embeddings, each a sum of a few known directions, and one that answers."""
    import copy
    from dataclasses import replace

    from tiny_ablation.models.network import build_network

    hf = copy.deepcopy(network.hf)
    draws = torch.Generator().manual_seed(5)
    n = hf.get_input_embeddings().weight.shape[0]
    on = (torch.rand(n, len(directions), generator=draws) < 0.12) * (1 + torch.rand(n, len(directions), generator=draws))
    on[on.sum(1) == 0, 0] = 1.0
    unembed = torch.nn.Linear(32, n, bias=False)
    with torch.no_grad():
        hf.get_input_embeddings().weight.copy_(on @ directions)
        unembed.weight.zero_()
        unembed.weight[3] = directions[7]  # token 3 is the answer wherever direction 7 stands
        for block in hf.model.layers:
            block.self_attn.o_proj.weight.zero_()
            block.mlp.down_proj.weight.zero_()
    hf.set_output_embeddings(unembed)
    return build_network(replace(network.model, hf=hf.eval().requires_grad_(False), weights_hash="planted")), on


def test_toggling_finds_the_feature_that_carries_the_answer(toy_networks, text, monkeypatch):
    """Trained on activations of known directions, toggled on prompts whose answer hangs on one of them."""
    planted = known()
    from tiny_ablation.sae import trained as trained_module
    from tiny_ablation.sae.contexts import Contexts

    network, on = sparse_network(toy_networks["llama"], planted.directions)
    rows = generator(0, "test").integers(0, len(on), size=(700, 16)).astype(np.int32)
    monkeypatch.setattr(trained_module, "contexts", lambda *_: Contexts(rows[:650], rows[650:]))
    sae = SaeConfig(layer=0, corpus=str(text), **{**RECIPE, "own_samples": 0, "batch": 256, "steps": 1500, "k": 2}, lr=3e-3)
    found = read(trained(recipe(network, sae, 0)), "cpu")
    cosines = recovered(found.directions, planted.directions)
    assert cosines.mean() >= 0.9, cosines

    has, lacks = (torch.nonzero((on[:, 7] > 0) == want)[:, 0].tolist() for want in (True, False))
    prompts = [Prompt((has[i], lacks[i], has[i + 9]), (3,), (4,), {}, f"p{i}") for i in range(9)]
    other = [Prompt((has[i], lacks[i], lacks[i + 9]), (3,), (4,), {}, f"p{i}") for i in range(9)]
    cfg = SaeToggleConfig(candidates=9, controls=5, text_tokens=256, positions="last", sae=sae)
    arms = TOGGLE.plan(cfg, context(network, prompts, other))
    executor = Executor(network, prompts, [r.intervention for r in arms[0].rows], [metric("logit_diff")])
    effect = sum((b.values["logit_diff"] - b.baseline["logit_diff"]).sum(1) for b in executor) / len(prompts)
    best = arms[0].rows[int(effect.abs().argmax())].key["feature"]
    answer = planted.directions[7]
    assert torch.cosine_similarity(found.directions[best], answer, dim=0) >= 0.9
    assert effect.abs().max() > 5 * effect.abs().median()
    assert arms[0].features.features[0].number == best  # attribution puts it first
    assert arms[0].features.features[0].promoted[0][0] == network.model.tokenizer.decode([3])


@pytest.mark.parametrize(
    ("kind", "keys", "said"),
    [
        (TOGGLE, {"mode": "shout"}, "ablation.mode"),
        (TOGGLE, {"error_term": "maybe"}, "ablation.error_term"),
        (TOGGLE, {"positions": "subject"}, "ablation.positions"),
        (TOGGLE, {"scales": []}, "ablation.scales"),
        (TOGGLE, {"candidates": 0}, "ablation.candidates"),
        (TOGGLE, {"sae": SaeConfig(path="a", release="b", id="c")}, "sae.path and sae.release"),
        (TOGGLE, {"sae": SaeConfig(release="b")}, "sae.release and sae.id"),
        (TOGGLE, {"sae": SaeConfig(path="a", k=3)}, "sae.k"),
        (TOGGLE, {"sae": SaeConfig(component="q")}, "sae.component"),
        (TRAIN, {"sae": SaeConfig(path="a")}, "ablation=sae_toggle"),
        (TRAIN, {"sae": SaeConfig(k=50, width=10)}, "sae.width=10"),
        (TRAIN, {"sae": SaeConfig(lr=0.0)}, "sae.lr"),
    ],
)
def test_what_cannot_be_meant_is_refused(kind, keys, said):
    config = SaeToggleConfig if kind is TOGGLE else SaeTrainConfig
    with pytest.raises(ConfigError, match=said.replace(".", r"\.")):
        checked(kind, config(**{"sae": SaeConfig(), **keys}))


def test_no_feature_of_that_number(toy_networks, make_pairs, text):
    clean, corrupt = make_pairs(300)
    cfg = SaeToggleConfig(features=[3, 24], sae=SaeConfig(corpus=str(text), **RECIPE))
    with pytest.raises(ConfigError, match="24 features"):
        TOGGLE.plan(cfg, context(toy_networks["llama"], clean, corrupt))


def overrides(text):
    return [f"sae.corpus={text}", *(f"sae.{key}={value}" for key, value in RECIPE.items())]


@pytest.fixture
def whole_run(tmp_path, text):
    """A run through the app, on the toy model."""
    from hydra import compose, initialize_config_dir

    from tiny_ablation import pipeline
    from tiny_ablation.ablations.registry import run_spec
    from tiny_ablation.config.settings import to_settings
    from tiny_ablation.paths import conf_dir
    from tiny_ablation.report.terminal import Screen
    from tiny_ablation.store.reader import load_run

    def run(name, *more):
        common = ["model=toy", "tracking=off", "dataset.n_examples=8", "stats.n_boot=200", "stats.n_perm=200"]
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            cfg = compose("config", [*common, *overrides(text), *more])
        pipeline.run(run_spec(to_settings(cfg)), tmp_path / name, Screen(quiet=True))
        return load_run(tmp_path / name)

    return run


def test_a_run_of_both_kinds(whole_run, tmp_path):
    from sae_lens import SAE

    run = whole_run("train", "ablation=sae_train")
    numbers = run.summary["notes"]["sae"]
    assert {"explained_variance", "l0", "ce_recovered", "dead_features"} <= set(numbers)
    assert set(run.impact["granularity"]) == {"resid_post spliced", "resid_post zeroed"}
    assert SAE.load_from_disk(tmp_path / "train/sae").cfg.d_sae == 24
    assert "sae/sae_weights.safetensors" in run.manifest.files
    assert "sae/training_profile.json" in run.manifest.machine_files
    verdict = json.loads((tmp_path / "train/metrics/verify.json").read_text())["verdict"]
    assert verdict == "ok"

    toggled = whole_run("toggle", "ablation=sae_toggle", "ablation.candidates=5", "ablation.controls=3")
    assert toggled.impact["feature"].nunique() == 5
    lines = toggled.summary["notes"]["sae"]["lines"]
    assert any("recovers" in line for line in lines)
    assert any("spliced in with no feature touched" in line for line in lines)
    assert any("random features" in line and "matched features" in line for line in lines)
    metrics = tmp_path / "toggle/metrics"
    for name in ("features", "feature_examples", "feature_map", "controls"):
        assert (metrics / f"{name}.parquet").is_file()


def test_without_the_error_the_baseline_is_the_reconstruction(whole_run, tmp_path):
    whole_run("run", "ablation=sae_toggle", "ablation.candidates=4", "ablation.controls=2", "ablation.error_term=drop")
    import pandas as pd

    rows = pd.read_parquet(tmp_path / "run/metrics/per_example.parquet")
    splice = rows[rows["replacement"] == "splice"]
    assert len(splice) == 8
    # Equal runs have equal summaries, wherever the cache is that autoencoders are kept in.
    assert str(tmp_path) not in (tmp_path / "run/metrics/summary.json").read_text()
    assert (splice["logit_diff"] - splice["logit_diff_baseline"]).abs().max() > 1e-2
    known = dict(zip(splice["example_id"], splice["logit_diff"], strict=True))
    touched = rows[rows["feature"] >= 0]
    assert np.allclose(touched["logit_diff_baseline"], touched["example_id"].map(known))


def test_a_path_gives_what_training_gave(whole_run, tmp_path, text):
    first = whole_run("first", "ablation=sae_toggle", "ablation.candidates=4", "ablation.controls=2")
    shutil.copytree(next((tmp_path / "cache/sae").glob("toy-*[!k]")), tmp_path / "own")
    from hydra import compose, initialize_config_dir

    from tiny_ablation.ablations.registry import run_spec
    from tiny_ablation.config.settings import to_settings
    from tiny_ablation.paths import conf_dir

    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("config", ["model=toy", "ablation=sae_toggle", f"sae.path={tmp_path / 'own'}"])
    settings = to_settings(cfg)
    spec = run_spec(settings)
    assert spec.ablation.input_digest(settings.root.ablation).startswith("sae:")
    moved = shutil.copytree(tmp_path / "own", tmp_path / "elsewhere")
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        other = compose("config", ["model=toy", "ablation=sae_toggle", f"sae.path={moved}"])
    assert run_spec(to_settings(other)).identity("w").digest == spec.identity("w").digest
    assert first.manifest.digest != spec.identity("w").digest


def test_keys_of_autoencoders_are_refused_where_none_is_used():
    with pytest.raises(ConfigError, match=r"sae\.k is set, but ablation=heads_zero"):
        _compose.compose(["model=toy", "sae.k=3"])
