"""What the documentation shows works as it is written there."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
FAST = ("model=toy", "tracking=off", "verify=off", "device.threads=1", "stats.n_boot=200", "stats.n_perm=200")


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (REPOSITORY / page).read_text(), re.DOTALL)


def commands(page: str) -> list[str]:
    """The indented `tiny-ablate ...` lines of a page."""
    return re.findall(r"^ {4}(tiny-ablate .*?)(?:\s+#.*)?$", (REPOSITORY / page).read_text(), re.MULTILINE)


def test_a_new_kind_needs_one_yaml_file_and_one_module(tmp_path):
    """The example of docs/adding.md, put into a copy of the package."""
    for name in ("tiny_ablation", "conf"):
        shutil.copytree(REPOSITORY / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    [module], [config] = blocks("docs/adding.md", "python"), blocks("docs/adding.md", "yaml")
    (tmp_path / "tiny_ablation/interventions/kinds/mlp_half.py").write_text(module)
    (tmp_path / "conf/ablation/mlp_half.yaml").write_text(config)
    command = [
        sys.executable,
        "-m",
        "tiny_ablation",
        "ablation=mlp_half",
        *FAST,
        "dataset.n_examples=20",
        "hydra.run.dir=run",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run/metrics/layer_impact.parquet").is_file()


@pytest.mark.parametrize("command", [*commands("README.md"), *commands("docs/verify.md")])
def test_the_commands_of_the_pages_compose(command, tmp_path):
    """Each is a config that composes; running all of them on real models would take an hour."""
    import shlex

    args = [a for a in shlex.split(command)[1:] if a not in ("--help", "--resolve", "--cfg", "job", "-m")]
    done = subprocess.run(
        [sys.executable, "-m", "tiny_ablation", *args, "--cfg", "job", "--resolve"], cwd=tmp_path, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
