"""The files around the code are in step with one another: CI here and there, hooks, the site's menu, pinned versions."""

import re
import subprocess
import tomllib
import warnings
from pathlib import Path

import numpy as np
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def read_yaml(name: str) -> dict:
    return yaml.load((ROOT / name).read_text(), yaml.BaseLoader)


def recipe(target: str) -> str:
    """The commands of a make target."""
    found = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert found, target
    return found[1]


def test_hosted_ci_runs_what_ci_runs_here():
    here = re.findall(r"^make (.+)$", (ROOT / ".ci/run").read_text(), re.MULTILINE)
    (job,) = read_yaml(".github/workflows/ci.yml")["jobs"].values()
    there = [step["run"].removeprefix("make ") for step in job["steps"] if "run" in step]
    assert there == here
    assert {"env", "check", "test"} <= set(here)


def test_hosted_ci_runs_every_version_that_the_project_declares():
    (job,) = read_yaml(".github/workflows/ci.yml")["jobs"].values()
    declared = [c.rpartition(" ")[2] for c in PROJECT["project"]["classifiers"] if "Python :: 3." in c]
    assert job["strategy"]["matrix"]["python"] == declared
    assert PROJECT["project"]["requires-python"] == f">={declared[0]}"


def test_hooks_run_commands_of_make_check():
    (repository,) = read_yaml(".pre-commit-config.yaml")["repos"]
    commands = recipe("check").replace("$(BIN)", ".venv/bin")
    assert len(repository["hooks"]) >= 4
    for hook in repository["hooks"]:
        assert re.search(rf"{re.escape(hook['entry'])}( \.)?$", commands, re.MULTILINE), hook["entry"]


def test_every_page_is_in_the_menu_of_the_site():
    def pages(entry):
        if isinstance(entry, str):
            return [entry]
        return [page for each in (entry.values() if isinstance(entry, dict) else entry) for page in pages(each)]

    listed = pages(read_yaml("mkdocs.yml")["nav"])
    assert sorted(listed) == sorted(path.name for path in (ROOT / "docs").glob("*.md"))
    assert len(set(listed)) == len(listed)


def test_the_page_of_the_interface_has_every_public_name():
    import tiny_ablation

    shown = re.findall(r"^::: \S+\.(\w+)$", (ROOT / "docs/api.md").read_text(), re.MULTILINE)
    assert {"tiny_ablation", "__version__", *shown} == {"tiny_ablation", *tiny_ablation.__all__}


def test_every_dependency_of_the_tests_and_the_package_is_pinned():
    pinned = {canonicalize_name(line.partition("==")[0]) for line in (ROOT / "constraints.txt").read_text().splitlines()}
    project = PROJECT["project"]
    needed = [Requirement(text).name for text in (*project["dependencies"], *project["optional-dependencies"]["dev"])]
    assert {canonicalize_name(name) for name in needed} - pinned <= {"pip"}


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "CHANGELOG.md", ".github/PULL_REQUEST_TEMPLATE.md"])
def test_make_targets_that_documents_name_exist(name):
    makefile = (ROOT / "Makefile").read_text()
    for targets in re.findall(r"`make ([a-z][a-z -]*)`", (ROOT / name).read_text()):
        for target in targets.split():
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_package_says_that_it_is_typed():
    assert (ROOT / "tiny_ablation/py.typed").is_file()


def test_code_and_prose_have_one_width_and_no_line_is_formatted_by_hand():
    assert "pycodestyle" not in PROJECT["tool"]["ruff"]["lint"]
    mark = "fmt" + ": skip"
    places = [p for folder in ("tiny_ablation", "tests", "benchmarks", "tools", "docs") for p in (ROOT / folder).rglob("*.py")]
    assert len(places) > 400
    assert not [p for p in places if mark in p.read_text(encoding="utf-8")]


def test_a_warning_that_this_code_causes_is_an_error():
    with pytest.raises(RuntimeWarning):
        np.log(np.zeros(1))
    with pytest.raises(DeprecationWarning):
        warnings.warn("old", DeprecationWarning, stacklevel=1)


def test_make_run_ends_with_how_to_call_the_command_afterwards(tmp_path):
    bin_dir = tmp_path / "venv/bin"
    bin_dir.mkdir(parents=True)
    (bin_dir / "tiny-ablate").write_text('#!/bin/sh\necho "ran $*"\n')
    (bin_dir / "tiny-ablate").chmod(0o755)
    (tmp_path / "venv/.installed").touch()
    command = ["make", "--no-print-directory", "-C", str(ROOT), "run", f"VENV={tmp_path}/venv", "ARGS=model=toy"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    *_, ran, blank, last = done.stdout.splitlines()
    assert (ran, blank) == ("ran model=toy", "")
    assert f"`source {bin_dir}/activate`" in last
    assert 'make run ARGS="..."' in last
