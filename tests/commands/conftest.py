"""Corpora for sub-commands."""

import json

import pytest


@pytest.fixture
def corpus_file(tmp_path):
    """Writes a JSONL corpus of n rows in groups of templates; returns its name."""

    def write(n: int = 100, templates: int = 20, name: str = "mine.jsonl", **more: str) -> str:
        rows = [
            {
                "clean": f"Number {i} of kind {i % templates} is",
                "target": " blue",
                "foil": " red",
                "template": f"t{i % templates}",
                "note": i,
                **more,
            }
            for i in range(n)
        ]
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
        return name

    return write
