"""What the documentation shows works as it is written there."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from tiny_ablation import load_run
from tiny_ablation.cli import main
from tiny_ablation.commands import names
from tiny_ablation.commands._compose import compose, compose_sweep
from tiny_ablation.models.sources.toy import toy_llama

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = ["README.md", *sorted(f"docs/{path.name}" for path in (REPOSITORY / "docs").glob("*.md"))]
FAST = ("model=toy", "tracking=off", "verify=off", "device.threads=1", "stats.n_boot=200", "stats.n_perm=200")


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (REPOSITORY / page).read_text(), re.DOTALL)


def commands(page: str) -> list[str]:
    """The indented `tiny-ablate ...` lines of a page."""
    return re.findall(r"^ {4}(tiny-ablate .*?)(?:\s+#.*)?$", (REPOSITORY / page).read_text(), re.MULTILINE)


@pytest.mark.slow
def test_a_new_ablation_needs_one_yaml_file_and_one_module(tmp_path):
    """The example of docs/adding.md, put into a copy of the package: it halves the MLPs of the layers that are asked for."""
    for name in ("tiny_ablation", "conf"):
        shutil.copytree(REPOSITORY / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    [module], [config] = blocks("docs/adding.md", "python"), blocks("docs/adding.md", "yaml")
    (tmp_path / "tiny_ablation/ablations/mlp_half.py").write_text(module)
    (tmp_path / "conf/ablation/mlp_half.yaml").write_text(config)
    args = ["ablation=mlp_half", *FAST, "dataset.n_examples=20", "ablation.layers=[1]", "hydra.run.dir=run"]
    command = [sys.executable, "-m", "tiny_ablation", *args]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    impact = pd.read_parquet(tmp_path / "run/metrics/layer_impact.parquet")
    assert set(impact["layer"]) == {1}
    losses = pd.read_parquet(tmp_path / "run/metrics/losses.parquet")["share"].tolist()
    assert losses == [each["share"] for each in json.loads((tmp_path / "run/metrics/summary.json").read_text())["losses"]]
    page = (tmp_path / "run/report.html").read_text()
    assert f"<td>{losses[0]:.2f}</td>" in page
    assert 'data-figure="losses"' in page
    assert (tmp_path / "run/artifacts/losses.png").is_file()
    assert f"layer 1   {losses[0]:.2f}" in done.stdout.replace("  layer", "layer")
    expected = halved_mlp(json.loads((tmp_path / "run/provenance.json").read_text())["prompts"])
    assert impact.loc[impact["metric"] == "logit_diff", "value"].tolist() == pytest.approx([expected], abs=1e-5)


def halved_mlp(prompts: list[dict]) -> float:
    """The mean logit difference of the toy model when the MLP of its second layer adds half."""
    model, _ = toy_llama()
    model.model.layers[1].mlp.register_forward_hook(lambda module, args, out: out / 2)
    found = []
    for prompt in prompts:
        with torch.no_grad():
            last = model(torch.tensor([prompt["clean"]])).logits[0, -1]
        found.append(float(last[prompt["target"][0]] - last[prompt["foil"][0]]))
    return float(np.mean(found))


@pytest.mark.slow
def test_the_prompts_of_the_tutorial_work_as_they_are_written(tmp_path):
    [prompts] = blocks("docs/tutorial.md", "json")
    (tmp_path / "mine.jsonl").write_text(prompts)
    command = "tiny-ablate dataset=file dataset.path=mine.jsonl"
    assert command in commands("docs/tutorial.md")
    # The toy model's tokenizer has no word of more than one letter, so that whole answers are scored.
    fast = [*FAST, "metrics.span=full", "hydra.run.dir=run"]
    done = subprocess.run(
        [sys.executable, "-m", "tiny_ablation", *shlex.split(command)[1:], *fast],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(set(load_run(tmp_path / "run").per_example["example_id"])) == prompts.count("clean")


@pytest.mark.parametrize("page", PAGES)
def test_links_and_pictures_are_there(page):
    here = (REPOSITORY / page).parent
    targets = re.findall(r"\]\(([^)#]+)\)", (REPOSITORY / page).read_text())
    assert [target for target in targets if "://" not in target and not (here / target).exists()] == []
    assert all(path.stat().st_size < 200_000 for path in (REPOSITORY / "docs" / "pictures").glob("*.png"))


@pytest.mark.parametrize("page", PAGES)
def test_commands_are_quoted_for_every_shell(page):
    """zsh, the shell of a Mac, takes brackets that are not quoted for patterns of file names, and refuses them."""
    bare = [re.sub(r"'[^']*'|\"[^\"]*\"", "", command) for command in commands(page)]
    assert [command for command in bare if re.search(r"[][{}*?()]", command)] == []


@pytest.mark.parametrize(("page", "command"), [(page, command) for page in PAGES for command in commands(page)])
def test_the_commands_of_the_pages_are_understood(page, command):
    """Each composes, with every cell of a sweep; running all of them on real models would take hours."""
    args = [a for a in shlex.split(command)[1:] if a not in ("--help", "--version", "--resolve", "--cfg", "job")]
    multirun = "-m" in args
    overrides = [a for a in args if re.match(r"[+~]?[\w./@]+=", a)]
    if args and re.fullmatch(r"[A-Za-z][\w-]*", args[0]):
        assert args[0].replace("-", "_") in names()
    assert compose_sweep(overrides).plan.cells if multirun else compose(overrides)


# What a command is given so that it is over in seconds; the keys of the page itself come first and lose.
SMALL = {
    "model": "toy",
    "dataset.n_examples": "12",
    "tracking": "off",
    "device.threads": "1",
    "stats.n_boot": "200",
    "stats.n_perm": "200",
    "hydra.launcher.n_jobs": "1",
}
SMALL_SAE = {
    "sae.corpus": str(REPOSITORY / "docs"),
    "sae.width": "32",
    "sae.k": "4",
    "sae.context": "16",
    "sae.steps": "30",
    "sae.own_samples": "2",
    "sae.batch": "32",
    "sae.tokens": "640",
    "sae.held_out": "256",
}
KNOWN = ("planted", "induction_pair", "tracr_dyck")  # small themselves
ELSEWHERE = {
    "ui": "starts a server: tests/commands/test_ui.py",
    "selfcheck": "a minute: tests/commands/test_selfcheck.py",  # but for --prompts
    "behaviours": "every behaviour: tests/commands/test_behaviours.py",
    "models": "every architecture: tests/commands/test_models.py",
}
# What needs a model in files or one of a published size, which the toy model is not, or a ranking of 270 heads: tests/models,
# tests/data/test_chat.py, tests/ablations/test_model_diff.py, tests/ablations/test_circuit_rankings.py.
OF_FILES = {
    "dataset.chat",
    "model.base",
    "model.quantization",
    "device.map",
    "ablation.tuned.path",
    "ablation.tuned.id",
    "ablation.ranking",
    "ablation.reproduce",
}
WITH_OVERRIDES = ("data", "plan")


def own_rows():
    """A corpus of one's own of twelve prompts, whose fields have the names of the pages' examples."""
    for i, word in enumerate(["ab", "cd", "ef", "gh", "ij", "kl", "mn", "op", "qr", "st", "uv", "wx"]):
        prompt = f"The opposite of {word} is"
        yield {
            "clean": prompt,
            "prompt": prompt,
            "target": f" {word[::-1]}",
            "answer": f" {word[::-1]}",
            "foil": " xy",
            "group": f"g{i}",
        }


def reduced(args):
    """The command for the toy model: the same keys, with small values."""
    given = dict(a.split("=", 1) for a in args if "=" in a and not a.startswith("-"))
    flags = [a for a in args if "=" not in a or a.startswith("-")]
    known = given.get("model") in KNOWN
    changed = {key: value for key, value in SMALL.items() if not (known and key in ("model", "dataset.n_examples"))}
    if not known:
        for key, value in (("ablation.of", '["0.0","0.3","1.1"]'), ("ablation.layers", "[0,1]")):
            changed |= {key: value} if key in given else {}
    if "sae" in given.get("ablation", "") or "sae" in given.get("experiment", ""):
        changed |= SMALL_SAE
    if given.get("dataset") == "file" and not known:
        changed["metrics.span"] = "full"
    if given.get("experiment") == "robustness":
        changed |= {"ablation": "heads_zero,heads_mean", "model.weights": "raw"}
    given.pop("model.path", None)
    return [*flags, *(f"{key}={value}" for key, value in (given | changed).items())]


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_run_one_after_the_other(page, tmp_path, monkeypatch, capfd):
    """Each as it is written but for the model and sizes; ELSEWHERE says where the others are run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BROWSER", "true")
    monkeypatch.setenv("TINY_ABLATE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in own_rows()))
    found = [shlex.split(command)[1:] for command in commands(page)]
    for args in sorted(found, key=lambda args: args[0] == "findings"):  # of the runs whose commands stand below it
        name, command = args[0], shlex.join(args)
        if name in ELSEWHERE and "--prompts" not in args:
            continue
        if OF_FILES & {arg.split("=")[0] for arg in args}:
            continue
        if name not in names() or name in WITH_OVERRIDES:
            args = reduced(args)
        monkeypatch.setattr(sys, "argv", ["tiny-ablate"])
        code = main(args)
        assert code == 0, f"{command}\n{shlex.join(args)}\n{capfd.readouterr().err[-2000:]}"
