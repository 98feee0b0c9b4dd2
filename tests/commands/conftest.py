"""Running sub-commands in this process."""

import json
from typing import Any, NamedTuple

import pytest

from tiny_ablation.cli import main


class Result(NamedTuple):
    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Runs `tiny-ablate ARGS` in an empty directory."""
    monkeypatch.chdir(tmp_path)

    def run(*args: str) -> Result:
        monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
        code = main(args)
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return run


@pytest.fixture
def corpus_file(tmp_path):
    """Writes a JSONL corpus of n rows in groups of templates; returns its name."""

    def write(n: int = 100, templates: int = 20, name: str = "mine.jsonl", **more: str) -> str:
        rows = [
            {"clean": f"Number {i} of kind {i % templates} is", "target": " blue", "foil": " red",
             "template": f"t{i % templates}", "note": i, **more}
            for i in range(n)
        ]  # fmt: skip
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
        return name

    return write
