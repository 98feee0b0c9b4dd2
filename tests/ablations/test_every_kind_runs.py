"""Every ablation that ships runs from its YAML file to a finished, verified run directory, on the toy model."""

import json

import numpy as np
import pytest
from hydra import compose, initialize_config_dir

from tiny_ablation import app  # noqa: F401 (it registers the schema of every config group)
from tiny_ablation.ablations.registry import all_ablations, run_spec
from tiny_ablation.config.settings import to_settings
from tiny_ablation.paths import conf_dir
from tiny_ablation.pipeline import run as carry_out
from tiny_ablation.report.terminal import Screen
from tiny_ablation.store.reader import load_run

ABLATIONS = sorted(path.stem for path in (conf_dir() / "ablation").glob("*.yaml"))
# An autoencoder of the pages of this repository, trained in a second.
SAE = [
    f"sae.corpus={conf_dir().parent / 'docs'}",
    "sae.width=32",
    "sae.k=4",
    "sae.context=16",
    "sae.own_samples=2",
    "sae.steps=30",
    "sae.batch=32",
    "sae.tokens=640",
    "sae.held_out=256",
]
LEARNED = ("heads_optimal", "attn_optimal", "mlp_optimal")
RESAMPLED = ("heads_resample", "attn_resample", "mlp_resample")
# What has to be said: which heads, or which examples where the toy model's tokens make prompts of unequal lengths.
SAID = {
    "activation_patch": ["ablation.unequal=skip"],
    "causal_trace": ["dataset.n_examples=4"],
    "model_diff": ["model@ablation.tuned=toy", "ablation.tuned.seed=1"],
    "path_patch": ["ablation.unequal=skip"],
    "heads_pair_zero": ["ablation.of=[0.1,0.2,1.3]"],
    **{name: ["ablation.steps=2", "ablation.n_reference=4"] for name in LEARNED},
    **{name: ["ablation.unmatched=skip", "dataset.n_examples=12"] for name in RESAMPLED},
    "sae_toggle": [*SAE, "ablation.candidates=6", "ablation.controls=3", "ablation.text_tokens=256"],
    "sae_train": SAE,
    "heads_set_zero": ["ablation.sets={two: [0.1, 1.2], one: [L1H3]}", "ablation.n_random=3"],
}
# Another site or preset of a kind that always runs.
ALIKE = {"attn_resample", "mlp_resample", "attn_optimal", "mlp_optimal", "heads_mean_template", "heads_resample_skip"}
ALIKE |= {"heads_patch", "attn_zero", "attn_mean", "mlp_mean"}
COMMON = ["model=toy", "tracking=off", "dataset.n_examples=8", "stats.n_boot=200", "stats.n_perm=200"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """Autoencoders that are trained here stay out of the user's cache."""
    monkeypatch.setenv("TINY_ABLATE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def run(directory, *overrides):
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("config", [*COMMON, *overrides])
    carry_out(run_spec(to_settings(cfg)), directory, Screen(quiet=True))
    return load_run(directory)


def test_every_kind_has_a_yaml_file_and_every_file_a_kind():
    assert ABLATIONS
    assert set(all_ablations()) <= set(ABLATIONS)


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in ALIKE else n for n in ABLATIONS])
def test_runs_end_to_end(tmp_path, name):
    said = SAID.get(name, [])
    if name == "circuit":  # takes its ranking from a run over heads
        run(tmp_path / "earlier", "ablation=heads_zero", "ablation.scales=[0.0]")
        said = [f"ablation.from_run={tmp_path / 'earlier'}", "ablation.n_random=3", "ablation.members=2"]
    finished = run(tmp_path / "run", f"ablation={name}", *said)
    impact = finished.impact
    assert set(impact["metric"]) >= {"logit_diff", "kl_div"}
    assert np.isfinite(impact.loc[impact["metric"] == "logit_diff", "value"]).all()
    assert impact["delta"].abs().max() > 1e-3  # something was intervened on
    assert json.loads((tmp_path / "run/manifest.json").read_text())["status"] == "ok"
    assert json.loads((tmp_path / "run/metrics/verify.json").read_text())["verdict"] == "ok"
    assert (tmp_path / "run/report.html").exists()


@pytest.mark.parametrize(
    ("overrides", "files"),
    [
        (["ablation=heads_mean", "ablation.mean=template_position", "ablation.component=k", "dataset=ioi"], []),
        (["ablation=heads_resample", "ablation.positions=last", "ablation.component=v"], ["draws"]),
        (["ablation=mlp_mean", "ablation.mean=position", "ablation.positions=last", "metrics.span=full"], []),
        (["ablation=heads_set_zero", "ablation.sets={a: [0.1, L1H2]}", "ablation.keep=true"], ["controls"]),
    ],
    ids=["mean", "resample", "mlp", "set"],
)
def test_options_run_end_to_end(tmp_path, overrides, files):
    finished = run(tmp_path / "run", *overrides)
    assert finished.impact["delta"].abs().max() > 1e-3
    assert json.loads((tmp_path / "run/metrics/verify.json").read_text())["verdict"] == "ok"
    for name in files:
        assert (tmp_path / f"run/metrics/{name}.parquet").exists()


def test_a_rerun_gives_the_same_bytes(tmp_path):
    overrides = ("ablation=heads_resample", "ablation.positions=last", "verify=off")
    for directory in ("first", "second"):
        run(tmp_path / directory, *overrides)
    for name in ("head_impact.parquet", "draws.parquet", "summary.json"):
        assert (tmp_path / "first/metrics" / name).read_bytes() == (tmp_path / "second/metrics" / name).read_bytes()
