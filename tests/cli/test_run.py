"""One run from the command line to its files."""

import json
import signal
import subprocess
import sys
import time
from datetime import datetime

import pandas as pd
import pytest
from transformers import LlamaForCausalLM

from tests.cli.conftest import TOY, deterministic_files, write_rows
from tiny_ablation.engine.executor import Executor
from tiny_ablation.store.manifest import check_files, read_manifest
from tiny_ablation.store.reader import load_run
from tiny_ablation.store.rundir import RunDir

FILES = {
    "manifest.json",
    "machine.json",
    "provenance.json",
    "env.txt",
    "config.yaml",
    "run.log",
    "report.html",
    "metrics/summary.json",
    "metrics/head_impact.parquet",
    "metrics/per_example.parquet",
    "metrics/verify.json",
    "metrics/profile.json",
    "metrics/groups.parquet",
    "metrics/head_readouts.parquet",
    "metrics/layer_readouts.parquet",
    "metrics/head_prompts.parquet",
    *(
        f"artifacts/{name}.{kind}"
        for name in ("head_map", "forest", "scales", "timeline", "verify")
        for kind in ("png", "pdf", "svg", "html")
    ),
    "artifacts/plotly.min.js",
    "metrics/site_controls.parquet",
}


@pytest.fixture
def finished(cli, tmp_path, once):
    result = once(lambda: cli(*TOY, "ablation.scales=[0,0.5,1]", "hydra.run.dir=run"))
    assert result.code == 0, result.err
    return result, tmp_path / "run"


def test_the_files_of_a_run(finished):
    _, directory = finished
    written = {p.relative_to(directory).as_posix() for p in directory.rglob("*") if p.is_file() and not p.name.startswith(".")}
    assert written == FILES
    assert check_files(RunDir(directory)) == []
    assert json.loads((directory / "manifest.json").read_text())["status"] == "ok"


def test_the_impact_table(finished):
    _, directory = finished
    table = pd.read_parquet(directory / "metrics/head_impact.parquet")
    first = ["run_id", "seed", "layer", "head", "scale", "metric", "value"]
    then = [
        "condition",
        "model",
        "dataset",
        "replacement",
        "positions",
        "direction",
        "n",
        "baseline",
        "delta",
        "ci_low",
        "ci_high",
        "p_value",
        "q_value",
        "null",
    ]
    assert list(table.columns[:7]) == first
    assert list(table.columns[7:21]) == then
    assert len(table) == 2 * 4 * 3 * 7  # layers, heads, scales, metrics
    unscaled = table[table["scale"] == 1.0]
    assert (unscaled["delta"] == 0).all()
    assert (table["delta"] - (table["value"] - table["baseline"])).abs().max() < 1e-12
    assert set(table["run_id"]) == {json.loads((directory / "manifest.json").read_text())["run_id"]}


def test_the_impact_table_is_the_mean_of_the_examples(finished):
    _, directory = finished
    run = load_run(directory)
    means = run.per_example.groupby(["layer", "head", "scale"])[["logit_diff", "logit_diff_baseline"]].mean()
    rows = run.impact[run.impact["metric"] == "logit_diff"].set_index(["layer", "head", "scale"])
    assert (means["logit_diff"] - rows["value"]).abs().max() < 1e-9
    assert (means["logit_diff"] - means["logit_diff_baseline"] - rows["delta"]).abs().max() < 1e-9


def test_the_screen(finished):
    result, _ = finished
    for words in ("Strongest attention heads", "95 % interval", "Baseline", "20 examples", "report.html"):
        assert words in result.out
    assert "\x1b" not in result.out + result.err  # no colours or bars in a pipe


def test_the_same_command_gives_the_same_bytes(cli, tmp_path):
    for name in ("one", "two"):
        assert cli(*TOY, f"hydra.run.dir={name}").code == 0
    one, two = deterministic_files(tmp_path / "one"), deterministic_files(tmp_path / "two")
    assert one.keys() == two.keys()
    assert [name for name in one if one[name] != two[name]] == []


def test_another_seed_draws_other_examples(cli, tmp_path):
    for seed in (0, 1):
        assert cli(*TOY, f"seed={seed}", f"hydra.run.dir=s{seed}").code == 0
    ids = [set(load_run(tmp_path / f"s{seed}").per_example["example_id"]) for seed in (0, 1)]
    assert ids[0] != ids[1]


def test_an_interrupted_run_keeps_what_was_finished_and_goes_on(cli, tmp_path, monkeypatch):
    args = (*TOY, "device.batch_tokens=64")
    assert cli(*args, "hydra.run.dir=whole").code == 0
    real = Executor.run

    def stop_at_third(self, index, *tick):
        if index == 2 and self.plan:  # not of the baseline
            raise KeyboardInterrupt
        return real(self, index, *tick)

    with monkeypatch.context() as patch:
        patch.setattr(Executor, "run", stop_at_third)
        stopped = cli(*args, "hydra.run.dir=part")
    assert stopped.code == 130
    assert "interrupted" in stopped.err
    assert "Traceback" not in stopped.err
    manifest = json.loads((tmp_path / "part/manifest.json").read_text())
    assert manifest["status"] == "partial"
    assert 0 < manifest["n_examples"] < 20
    assert load_run(tmp_path / "part").impact["n"].eq(manifest["n_examples"]).all()
    before = stages(tmp_path / "part")["measure"]["prompt_tokens"]

    calls = []

    def called(self, index, *tick):
        calls.extend([index] if self.plan else [])
        return real(self, index, *tick)

    with monkeypatch.context() as patch:
        patch.setattr(Executor, "run", called)
        assert cli(*args, "hydra.run.dir=part").code == 0
    assert calls[0] == 2  # the first two batches were not computed again
    part, whole = deterministic_files(tmp_path / "part"), deterministic_files(tmp_path / "whole")
    assert [name for name in whole if part[name] != whole[name]] == []
    # Each process counts what it computed itself: eight heads on every prompt, once.
    prompts = json.loads((tmp_path / "whole/provenance.json").read_text())["prompts"]
    tokens = 8 * sum(len(prompt["clean"]) for prompt in prompts)
    after = stages(tmp_path / "part")["measure"]["prompt_tokens"]
    assert stages(tmp_path / "whole")["measure"]["prompt_tokens"] == tokens
    assert before + after == tokens
    assert before > 0


def test_tokens_of_a_run_are_those_of_its_forward_passes(cli, tmp_path, monkeypatch):
    """Judged by the model's own class, which the engine, the probes and the reference all end in."""
    real, seen = LlamaForCausalLM.forward, []

    def counted(self, input_ids, **kwargs):
        seen.append(input_ids.numel())
        return real(self, input_ids, **kwargs)

    monkeypatch.setattr(LlamaForCausalLM, "forward", counted)
    split = ("dataset.split=dev", "stats.confirm=test", "stats.confirm_examples=10")
    assert cli(*TOY, *split, "ablation=heads_mean", "hydra.run.dir=run").code == 0
    told = {name: entry.get("tokens", 0) for name, entry in stages(tmp_path / "run").items()}
    assert sum(told.values()) == sum(seen)
    assert {"measure", "confirm", "verify"} <= {name for name, tokens in told.items() if tokens}


def stages(directory):
    return json.loads((directory / "metrics/profile.json").read_text())["stages"]


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, *(pytest.param(n, marks=pytest.mark.slow) for n in (signal.SIGINT, signal.SIGHUP))]
)
def test_signals(tmp_path, number):
    command = [
        sys.executable,
        "-m",
        "tiny_ablation",
        *TOY,
        "dataset.n_examples=null",
        "device.batch_tokens=16",
        "hydra.run.dir=run",
    ]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        text=True,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # A shell that starts the tests in the background makes them, and their children, deaf to Ctrl-C.
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("run/partial/*.safetensors")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "warning: interrupted; what was finished is kept" in err  # at once, before the tables are made
    assert json.loads((tmp_path / "run/manifest.json").read_text())["status"] == "partial"


def test_own_data_with_own_field_names(cli, tmp_path):
    rows = [
        {"prompt": f"The {word} is", "answer": " red", "wrong": " blue"}
        for word in ("car", "house", "sky", "tree", "cup", "hat")
    ]
    override = write_rows(tmp_path / "rows.jsonl", *rows)
    fields = "dataset.fields={clean: prompt, target: answer, foil: wrong}"
    result = cli("model=toy", "tracking=off", "dataset=jsonl", override, fields, "hydra.run.dir=run")
    assert result.code == 0, result.err
    assert len(set(load_run(tmp_path / "run").per_example["example_id"])) == 6


def test_whole_answers(cli, tmp_path):
    rows = [
        {"clean": f"The {w} is", "target": " red and blue", "foil": " green"} for w in ("car", "house", "sky", "tree", "cup")
    ]
    override = write_rows(tmp_path / "rows.jsonl", *rows)
    result = cli("model=toy", "tracking=off", "dataset=jsonl", override, "metrics.span=full", "hydra.run.dir=run")
    assert result.code == 0, result.err
    assert json.loads((tmp_path / "run/metrics/summary.json").read_text())["primary"] == "seq_logprob_diff"


def test_a_finished_run_is_published(cli, tmp_path):
    pytest.importorskip("mlflow")
    args = [arg for arg in TOY if arg != "tracking=off"]
    result = cli(*args, "hydra.run.dir=run")
    assert result.code == 0, result.err
    assert (tmp_path / "mlflow.db").is_file()
    assert result.out.strip().splitlines()[-1] == "Browse runs: tiny-ablate ui"


def test_no_failure_of_tracking_fails_a_run(cli, tmp_path):
    (tmp_path / "mlflow.db").write_text("this is no database")
    args = [arg for arg in TOY if arg != "tracking=off"]
    result = cli(*args, "hydra.run.dir=run")
    assert result.code == 0
    assert json.loads((tmp_path / "run/manifest.json").read_text())["status"] == "ok"


@pytest.mark.slow
def test_runs_of_one_second_have_a_directory_each(cli, tmp_path):
    """Here of one year, so that the test need not be quick."""
    args = (*TOY, "dataset.n_examples=4", "verify=off", "hydra.run.dir=outputs/${now:%Y}")
    assert [cli(*args, f"seed={seed}").code for seed in (0, 1, 2)] == [0, 0, 0]
    year = f"{datetime.now():%Y}"
    found = {path.name: read_manifest(path).extra["seed"] for path in (tmp_path / "outputs").iterdir()}
    assert found == {year: 0, f"{year}-2": 1, f"{year}-3": 2}


def test_a_directory_that_was_named_for_a_run_that_is_refused_does_not_stay(cli, tmp_path):
    assert cli(*TOY, "dataset=jsonl", "dataset.path=nothing.jsonl", "hydra.run.dir=outputs/${now:%Y}").code == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("key", ["seed", "model.seed"])
def test_a_seed_that_no_table_holds_is_refused_before_anything_is_done(cli, tmp_path, key):
    refused = cli(*TOY, f"{key}={2**63}")
    assert refused.code == 2
    assert f"{key}={2**63}: it must be at least -{2**63} and at most {2**63 - 1}" in refused.err
    assert list(tmp_path.iterdir()) == []
