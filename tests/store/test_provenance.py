import importlib.metadata
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone

from tiny_ablation.store import provenance
from tiny_ablation.store.files import to_json

START = datetime(2025, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=2)))


def collected(program="/home/somebody/bin/tiny-ablate"):
    return provenance.collect(
        hashes={"config": "c", "data": "d", "split": None, "weights": "w"},
        device="cpu",
        started=START,
        ended=START + timedelta(seconds=1.5),
        threads=2,
        argv=[program, "seed=1"],
    )


def test_times_hashes_and_command():
    found = collected()
    assert (found["started"], found["ended"], found["seconds"]) == (
        "2025-01-02T01:04:05+00:00",
        "2025-01-02T01:04:06+00:00",
        1.5,
    )
    assert (found["config_hash"], found["split_hash"]) == ("c", None)
    assert found["argv"] == ["tiny-ablate", "seed=1"]
    assert collected("/lib/tiny_ablation/__main__.py")["argv"] == ["tiny-ablate", "seed=1"]  # python -m tiny_ablation
    assert found["machine"]["threads"] == 2
    assert found["machine"]["memory_bytes"] > 0
    assert START.astimezone(UTC).hour == 1


def test_no_host_name_is_stored():
    assert platform.node() == "" or platform.node() not in to_json(collected())


def test_versions_are_the_installed_ones():
    found = provenance.versions(["NumPy", "not-installed-anywhere"])
    assert found == {"NumPy": importlib.metadata.version("numpy"), "not-installed-anywhere": None}


def test_env_lists_every_package_once_and_sorted():
    lines = provenance.env_txt().splitlines()
    assert f"hydra-core=={importlib.metadata.version('hydra-core')}" in lines
    names = [line.partition("==")[0] for line in lines]
    assert names == sorted(set(names))


def git(path, *arguments):
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    subprocess.run(["git", "-C", path, *identity, *arguments], check=True, capture_output=True, env=environment)


def test_commit_of_a_checkout_and_of_none(tmp_path, monkeypatch):
    package = tmp_path / "pkg"
    package.mkdir()
    (package / "__init__.py").write_text("")
    monkeypatch.setattr(provenance, "_PACKAGE", package)
    monkeypatch.setattr(provenance, "conf_dir", lambda: package)
    git(tmp_path, "init", "-q")
    (tmp_path / "other.txt").write_text("another project's file")
    git(tmp_path, "add", "other.txt")
    git(tmp_path, "commit", "-qm", "one")
    assert provenance.git_commit() is None  # inside a repository that does not track it
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "two")
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    commit = provenance.git_commit()
    assert commit is not None
    assert len(commit.sha) == 40
    assert not commit.dirty
    (package / "new.py").write_text("")
    assert provenance.git_commit() == (commit.sha, True)


def test_results_import_nothing_heavy():
    code = (
        "import sys, tiny_ablation.store.reader, tiny_ablation.store.provenance\n"
        "print(sorted({'numpy', 'pandas', 'torch', 'pyarrow', 'omegaconf', 'mlflow'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
