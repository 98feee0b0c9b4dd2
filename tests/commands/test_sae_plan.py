"""`plan` trains nothing: it says what the run will be, and that an autoencoder is trained first."""

import pandas as pd
import pytest

from tiny_ablation.sae import trained

SAE = (
    "sae.width=32",
    "sae.k=4",
    "sae.context=16",
    "sae.own_samples=2",
    "sae.steps=30",
    "sae.batch=32",
    "sae.tokens=640",
    "sae.held_out=256",
)
RUNS = {
    "sae_train": ("layer_impact", ()),
    "sae_toggle": ("feature_impact", ("ablation.features=[3,5,8]", "ablation.controls=2", "ablation.text_tokens=256")),
}


@pytest.mark.parametrize("name", RUNS)
def test_the_run_has_the_rows_that_were_planned_before_its_autoencoder_was_trained(cli, tmp_path, monkeypatch, name):
    monkeypatch.setenv("TINY_ABLATE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "text.txt").write_text("The capital of France is Paris. " * 200)
    table, given = RUNS[name]
    run = ("model=toy", f"ablation={name}", "dataset.n_examples=6", "sae.corpus=text.txt", *SAE, *given)
    [planned] = cli("plan", *run, "--json").json()
    told = cli("plan", *run).out
    assert not list((tmp_path / "cache").glob("sae/*"))
    assert "an autoencoder of 32 features is trained" in told
    assert planned["first"]["an autoencoder of 32 features is trained"] <= planned["seconds"]

    done = cli(*run, "tracking=off", "verify=off", "stats.n_boot=100", "stats.n_perm=100", "hydra.run.dir=run")
    assert done.code == 0
    metrics = tmp_path / "run/metrics"
    assert len(pd.read_parquet(metrics / f"{table}.parquet")) == planned["impact_rows"]
    [again] = cli("plan", *run, "--json").json()  # of the autoencoder that is there now
    assert again["first"] == {}
    same = ("examples", "interventions", "nodes", "forwards", "operations", "impact_rows", "example_rows")
    assert {key: again[key] for key in same} == {key: planned[key] for key in same}


def test_another_training_is_planned_where_one_is_asked_for(cli, monkeypatch):
    monkeypatch.setattr("tiny_ablation.ablations.sae.rows.is_whole", lambda _: True)
    run = ("model=toy", "ablation=sae_train", "dataset.n_examples=6", f"sae.corpus={trained.__file__}")
    [found] = cli("plan", *run, "ablation.anew=true", "--json").json()
    assert list(found["first"]) == ["an autoencoder of 64 features is trained"]
