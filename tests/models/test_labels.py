"""One notation for a head, wherever people see one."""

import re
from pathlib import Path

import pytest

from tiny_ablation.models.labels import head_label, site_label

ROOT = Path(__file__).resolve().parents[2]
PAGES = ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
SOURCES = sorted(
    path.relative_to(ROOT)
    for folder, kind in (("tiny_ablation", "*.py"), ("tiny_ablation", "*.j2"), ("conf", "*.yaml"))
    for path in (ROOT / folder).rglob(kind)
)
# `L0 H4`, `layer 0 head 4`, `layer 0, head 4`; and in code the pieces of a label that something else than `head_label` makes.
_OTHER = r"\b[Hh]eads? \d+\.\d|L\d+ H\d|\blayer \d+,? head \d"
_MADE = r"""L\{[^}]*\}\s?H\{|\{layer\}\.\{head\}|layer \{[^}]*\},? head \{"""


@pytest.mark.parametrize(
    ("key", "short", "sentence"),
    [
        ({"layer": 12, "head": 3, "scale": 0.0}, "L12H3", "L12H3"),
        ({"layer": 4, "granularity": "mlp_out"}, "L4 mlp_out", "layer 4, mlp_out"),
        ({"layer_a": 0, "head_a": 1, "layer_b": 2, "head_b": 3}, "L0H1 + L2H3", "L0H1 + L2H3"),
        ({"layer": 5, "feature": 17, "scale": 1.0}, "L5 feature 17", "layer 5, feature 17"),
        ({"layer": 5, "position": "last"}, "L5 last", "layer 5, last"),
        ({"set": "movers", "size": 3}, "movers size 3", "movers, size 3"),
    ],
)
def test_the_name_of_a_site(key, short, sentence):
    assert site_label(key) == short
    assert site_label(key, sentence=True) == sentence


def test_the_name_of_a_head():
    assert head_label(0, 4) == "L0H4"


@pytest.mark.parametrize("page", PAGES)
def test_documents_write_heads_in_one_way(page):
    assert not re.findall(_OTHER, (ROOT / page).read_text(encoding="utf-8"))


def test_nothing_else_makes_the_name_of_a_head():
    found = [path for path in SOURCES if re.search(f"{_OTHER}|{_MADE}", (ROOT / path).read_text(encoding="utf-8"))]
    assert [str(path) for path in found] == ["tiny_ablation/models/labels.py"]
