import hashlib
import json
import random
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tiny_ablation.config.schema import DatasetConfig, Split
from tiny_ablation.data.corpus import Corpus, content_hash, family_names, load_corpus, select, split_of
from tiny_ablation.data.examples import Example
from tiny_ablation.errors import ConfigError, DataError


def rows(n: int, groups: int = 1, relations: int = 1) -> list[dict[str, str]]:
    return [
        {
            "id": f"r{i}",
            "clean": f"The number after {i} is",
            "corrupt": f"The number after {i + n} is",
            "target": " more",
            "foil": " less",
            "group": f"g{i % groups}",
            "relation": f"k{i % groups % relations}",
        }
        for i in range(n)
    ]


def write(path: Path, lines: list[dict[str, str]], end: str = "\n") -> DatasetConfig:
    path.write_bytes("".join(json.dumps(line) + end for line in lines).encode())
    return DatasetConfig(name="mine", family="file", path=str(path))


@pytest.fixture
def corpus(tmp_path):
    def _corpus(n: int, groups: int = 1, relations: int = 1) -> Corpus:
        return load_corpus(write(tmp_path / "mine.jsonl", rows(n, groups, relations)), seed=0)

    return _corpus


def test_neither_line_ends_nor_order_nor_spacing_change_a_corpus(tmp_path):
    first = load_corpus(write(tmp_path / "a.jsonl", rows(50)), seed=0)
    shuffled = [dict(reversed(row.items())) for row in rows(50)]
    random.Random(1).shuffle(shuffled)
    assert load_corpus(write(tmp_path / "b.jsonl", shuffled, "\r\n\r\n"), seed=1) == first


@pytest.mark.parametrize(
    "field", ["id", "clean", "corrupt", "target", "foil", "group", "template", "relation", "subject", "split"]
)
def test_every_field_is_part_of_the_content_hash(field):
    base = Example("a", "clean x", "corrupt", "t", "f", "g", relation="r")
    assert content_hash([replace(base, **{field: "x"})]) != content_hash([base])


def test_sets_of_answers_are_part_of_the_content_hash():
    base = Example("a", "clean x", "corrupt", "t", "f", "g")
    more = [{"targets": ("t", "u")}, {"foils": ("f", "u")}, {"targets": ("t", "u"), "by_first_token": True}]
    assert len({content_hash([replace(base, **fields)]) for fields in ({}, *more)}) == 4


def test_rows_without_sets_have_the_hash_that_they_had_before_there_were_sets():
    row = {
        "id": "a",
        "clean": "c",
        "corrupt": "d",
        "target": "t",
        "foil": "f",
        "group": "g",
        "template": "",
        "subject": "",
        "relation": "",
        "marks": {},
        "corrupt_marks": {},
        "split": "",
    }
    of_row = hashlib.sha256(json.dumps(row, sort_keys=True).encode()).hexdigest()
    assert content_hash([Example("a", "c", "d", "t", "f", "g")]) == hashlib.sha256(of_row.encode()).hexdigest()


def test_marks_are_part_of_the_content_hash():
    base = Example("a", "clean x", "corrupt", "t", "f", "g")
    assert content_hash([replace(base, marks={"subject": (0, 5)})]) != content_hash([base])


def test_unicode_form_is_not_part_of_the_content_hash():
    one, other = (Example("a", clean, "", "t", "f", "g") for clean in ("Caf\u00e9\r\nis", "Cafe\u0301\nis"))
    assert content_hash([one]) == content_hash([other])


def test_splits_are_sixty_twenty_twenty(corpus):
    counts = Counter(corpus(5000).splits)
    assert counts["train"] == pytest.approx(3000, abs=150)
    assert counts["dev"] == pytest.approx(1000, abs=120)
    assert counts["test"] == pytest.approx(1000, abs=120)


def test_a_split_is_the_place_of_the_prompts_hash():
    # The first bytes of their SHA-256 as fractions: a ca97 = .79, b 3e23 = .24, c 2e7d = .18, i de7d = .87.
    splits = [split_of(Example(p, p, "", "t", "f", "g")) for p in ("a", "b", "c", "i")]
    assert splits == ["dev", "train", "train", "test"]


def test_rows_that_are_added_move_no_others(corpus):
    small, large = corpus(200), corpus(300)
    before = {e.clean: split for e, split in zip(small.examples, small.splits, strict=True)}
    after = {e.clean: split for e, split in zip(large.examples, large.splits, strict=True)}
    assert before.items() <= after.items()


def test_a_split_that_a_row_asks_for_is_kept_and_hashed(tmp_path):
    config = write(tmp_path / "a.jsonl", [{**row, "split": "dev"} for row in rows(20)])
    held_out = load_corpus(config, seed=0)
    assert set(held_out.splits) == {"dev"}
    assert held_out.split_hash != load_corpus(write(tmp_path / "b.jsonl", rows(20)), seed=0).split_hash


def test_the_splits_are_disjoint_and_complete(corpus):
    pool = corpus(300)
    parts = [select(pool, split, None, seed=0) for split in (Split.train, Split.dev, Split.test)]
    assert sorted(e.id for part in parts for e in part) == sorted(e.id for e in pool.examples)
    assert select(pool, Split.all, None, seed=0) == list(pool.examples)


def test_a_draw_is_decided_by_its_seed_and_stands_in_corpus_order(corpus):
    pool = corpus(100)
    drawn = select(pool, Split.all, 20, seed=3)
    assert drawn == select(pool, Split.all, 20, seed=3)
    assert drawn != select(pool, Split.all, 20, seed=4)
    assert drawn == [e for e in pool.examples if e in drawn]
    assert len({e.id for e in drawn}) == 20


def test_a_smaller_draw_is_part_of_a_larger_one(corpus):
    pool = corpus(100, groups=7)
    assert {e.id for e in select(pool, Split.all, 10, 0)} < {e.id for e in select(pool, Split.all, 30, 0)}


def test_a_draw_takes_equally_from_unequal_groups(tmp_path):
    # Groups of 90, 6 and 2 rows: 14 examples are 2 of the smallest and 6 of each other.
    lines = [{**row, "group": "c" if i < 2 else "b" if i < 8 else "a"} for i, row in enumerate(rows(98))]
    pool = load_corpus(write(tmp_path / "a.jsonl", lines), seed=0)
    assert Counter(e.group for e in select(pool, Split.all, 14, 0)) == {"a": 6, "b": 6, "c": 2}


def test_a_draw_smaller_than_the_groups_covers_the_relations(corpus):
    pool = corpus(120, groups=12, relations=4)
    for seed in range(5):
        drawn = select(pool, Split.all, 4, seed)
        assert len({e.relation for e in drawn}) == 4
        assert len({e.group for e in select(pool, Split.all, 12, seed)}) == 12


@pytest.mark.parametrize("n", [0, -3])
def test_no_examples_is_no_run(corpus, n):
    with pytest.raises(ConfigError, match=rf"dataset\.n_examples={n}"):
        select(corpus(10), Split.all, n, seed=0)


def test_more_examples_than_there_are(corpus):
    pool = corpus(50)
    available = pool.splits.count("test")
    with pytest.raises(DataError, match=f"n_examples=60, but the test split of mine has {available} examples"):
        select(pool, Split.test, 60, seed=0)
    assert len(select(pool, Split.test, available, seed=0)) == available


def test_an_empty_split_is_refused(corpus):
    pool = corpus(1)
    empty = next(split for split in (Split.train, Split.dev) if split.value not in pool.splits)
    with pytest.raises(DataError, match=rf"dataset\.split={empty.value}: .* has 0 examples"):
        select(pool, empty, None, seed=0)


def test_an_unknown_family_lists_those_there_are():
    with pytest.raises(ConfigError, match=r"dataset\.family=nonsense is unknown; choose from .*facts.*, file$"):
        load_corpus(DatasetConfig(name="x", family="nonsense"), seed=0)


@pytest.mark.parametrize("family", ["_build", "../facts", "facts.build", ""])
def test_only_families_are_found(family):
    with pytest.raises(ConfigError, match="is unknown"):
        load_corpus(DatasetConfig(name="x", family=family), seed=0)


@pytest.mark.parametrize("name", family_names())
def test_an_unknown_corruption_lists_those_there_are(name):
    with pytest.raises(ConfigError, match=rf"dataset\.corruption=nonsense is unknown to {name}; choose from \w+"):
        load_corpus(DatasetConfig(name="x", family=name, corruption="nonsense"), seed=0)


@pytest.mark.parametrize(("key", "value"), [("path", "mine.jsonl"), ("fields", {"clean": "prompt"})])
def test_a_file_for_a_family_without_one_is_refused(key, value):
    with pytest.raises(ConfigError, match=rf"dataset\.{key} .*dataset=file"):
        load_corpus(DatasetConfig(name="facts", family="facts", **{key: value}), seed=0)


def test_the_guards_run_and_the_answer_may_be_allowed_in_the_prompt(tmp_path):
    config = write(tmp_path / "a.jsonl", [{**rows(1)[0], "target": " number"}])
    with pytest.raises(DataError, match=r"r0 \(' number'\).*dataset\.allow_answer_in_prompt=true"):
        load_corpus(config, seed=0)
    config.allow_answer_in_prompt = True
    assert len(load_corpus(config, seed=0).examples) == 1


def test_relations_choose_rows_and_change_the_hash_but_no_split():
    whole = load_corpus(DatasetConfig(name="facts", family="facts"), 0)
    places = load_corpus(DatasetConfig(name="facts", family="facts", relations=["capital", "country"]), 0)
    assert {example.relation for example in places.examples} == {"capital", "country"}
    assert len(places.examples) == sum(example.relation in ("capital", "country") for example in whole.examples)
    split = dict(zip((example.id for example in whole.examples), whole.splits, strict=True))
    assert [split[example.id] for example in places.examples] == list(places.splits)
    assert places.content_hash != whole.content_hash
    assert places.split_hash != whole.split_hash


@pytest.mark.parametrize(
    ("relations", "said"),
    [(["capitol"], r"no relation 'capitol' \(did you mean capital\?\); choose from"), ([], "leaves no row")],
)
def test_relations_that_are_not_there_are_refused(relations, said):
    with pytest.raises(ConfigError, match=said):
        load_corpus(DatasetConfig(name="facts", family="facts", relations=relations), 0)


def test_reading_and_checking_a_corpus_imports_nothing_heavy():
    code = (
        "import sys, tiny_ablation.data.tokens; from tiny_ablation.data.corpus import load_corpus; "
        "from tiny_ablation.config.schema import DatasetConfig; "
        "load_corpus(DatasetConfig(name='facts', family='facts'), 0); "
        "print(sorted({'torch', 'numpy', 'pandas', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
