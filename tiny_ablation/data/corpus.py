"""From a dataset config to the examples of a run: load, check, hash, split, draw.

A corpus is kept in the order of its ids, so that neither its hash, nor its splits, nor what a seed draws from
it depends on the order of rows in a file.
"""

import hashlib
import importlib
import json
import pkgutil
from collections import defaultdict
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tiny_ablation.config.schema import DatasetConfig, Split
from tiny_ablation.config.seeds import generator
from tiny_ablation.data import families, guards, splits
from tiny_ablation.data.examples import Example
from tiny_ablation.data.families import Family
from tiny_ablation.data.rows import read_examples
from tiny_ablation.data.text import canonical, natural_key
from tiny_ablation.errors import ConfigError, DataError, did_you_mean

FILE = "file"
_WHERE_GIVEN = ("targets", "foils", "by_first_token", "turns", "corrupt_turns")


@dataclass(frozen=True)
class Corpus:
    """A checked pool of examples."""

    name: str  # of the dataset, in tables and paths
    family: str  # the behaviour, or `file`
    examples: tuple[Example, ...]  # in the order of their ids
    splits: tuple[str, ...]  # `train`, `dev` or `test` of each example
    content_hash: str  # SHA-256 over every field of every row; see `content_hash`
    split_hash: str  # SHA-256 over which id is in which split
    seeded: bool  # whether the seed drew the prompts themselves

    def of_split(self, split: Split) -> list[Example]:
        """The examples of a split, in their order."""
        pairs = zip(self.examples, self.splits, strict=True)
        return [example for example, name in pairs if split is Split.all or name == split.value]


def load_corpus(cfg: DatasetConfig, seed: int) -> Corpus:
    """The whole corpus of a dataset, checked by every guard.

    Raises:
        ConfigError: an unknown family or corruption, or a key that this family does not read.
        DataError: rows that cannot be used.
    """
    family = family_of(cfg)
    corruption = family.corruptions[0] if cfg.corruption is None else cfg.corruption
    if corruption not in family.corruptions:
        among = ", ".join(family.corruptions)
        raise ConfigError(f"dataset.corruption={corruption} is unknown to {family.name}; choose from {among}.")
    examples = sorted(family.build(seed, corruption), key=lambda e: natural_key(e.id))
    guards.check(
        examples,
        answer_in_prompt=family.answer_in_prompt or cfg.allow_answer_in_prompt,
        trailing_space=cfg.allow_trailing_space,
    )
    names = tuple(split_of(example) for example in examples)
    corpus = Corpus(
        name=cfg.name,
        family=family.name,
        examples=tuple(examples),
        splits=names,
        content_hash=content_hash(examples),
        split_hash=split_hash(examples, names),
        seeded=family.seeded,
    )
    if cfg.family == FILE:
        splits.check_sidecar(Path(cfg.path or "").expanduser(), corpus.content_hash)
    return corpus if cfg.relations is None else _of_relations(corpus, cfg.relations)


def _of_relations(corpus: Corpus, relations: Sequence[str]) -> Corpus:
    """The rows of some relations, as a corpus of their own; their splits stay what they are."""
    known = sorted({example.relation for example in corpus.examples} - {""})
    for name in relations:
        if name not in known:
            among = f"choose from {', '.join(known)}" if known else "no row has one"
            raise ConfigError(f"dataset.relations: {corpus.name} has no relation {name!r}{did_you_mean(name, known)}; {among}")
    pairs = zip(corpus.examples, corpus.splits, strict=True)
    kept = [(example, split) for example, split in pairs if example.relation in relations]
    if not kept:
        raise ConfigError("dataset.relations=[] leaves no row; name at least one, or null for all.")
    examples, names = zip(*kept, strict=True)
    return replace(
        corpus, examples=examples, splits=names, content_hash=content_hash(examples), split_hash=split_hash(examples, names)
    )


def family_names() -> list[str]:
    """The behaviours that ship with the tool."""
    modules = (m.name for m in pkgutil.iter_modules(families.__path__) if not m.name.startswith("_"))
    return sorted(name for name in modules if hasattr(_module(name), "FAMILY"))


def _module(name: str) -> Any:
    return importlib.import_module(f"{families.__name__}.{name}")


def family_of(cfg: DatasetConfig) -> Family:
    """The behaviour of a dataset.

    Raises:
        ConfigError: there is none of that name, or keys for a file are set that it does not read.
    """
    if cfg.answer_prefix and not cfg.chat:
        raise ConfigError("dataset.answer_prefix begins a chat model's answer; it needs dataset.chat=true.")
    if cfg.family == FILE:
        return Family(FILE, "Your own prompt pairs.", lambda _seed, _corruption: read_examples(cfg))
    known = family_names()
    if cfg.family not in known:
        raise ConfigError(
            f"dataset.family={cfg.family} is unknown{did_you_mean(cfg.family, known)}; choose from {', '.join([*known, FILE])}"
        )
    if cfg.path is not None or any(cfg.fields.values()):
        key = "dataset.path" if cfg.path is not None else "dataset.fields"
        raise ConfigError(f"{key} is for your own file and {cfg.family} reads none; use dataset=file with it.")
    if cfg.chat:
        raise ConfigError(
            f"dataset.chat=true is for your own file, and the prompts of {cfg.family} are to be continued; use dataset=file "
            "with it."
        )
    return _module(cfg.family).FAMILY


def content_hash(examples: Iterable[Example]) -> str:
    """One hash for one content: SHA-256 over the sorted hashes of the rows.

    A row is its fields as JSON with sorted keys, in NFC and with newlines as line ends. Neither the order of
    rows, nor the order of keys, nor a file's line ends and spacing change it. Sets of answers and conversations are in it
    where a row has them, so that rows without keep the hash that they had before there were any.
    """
    rows = []
    for example in examples:
        fields = {
            name: canonical(value) if isinstance(value, str) else value
            for name, value in vars(example).items()
            if name not in _WHERE_GIVEN or value
        }
        row = json.dumps(fields, sort_keys=True, ensure_ascii=False)
        rows.append(hashlib.sha256(row.encode()).hexdigest())
    return _digest(rows)


def split_hash(examples: Sequence[Example], names: Sequence[str]) -> str:
    """SHA-256 over which id is in which split."""
    return _digest(f"{e.id}\0{name}" for e, name in zip(examples, names, strict=True))


def _digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def split_of(example: Example) -> str:
    """The split that the row asks for, else by the hash of its prompt: 60 % train, 20 % dev, 20 % test.

    Equal prompts always fall together, and adding rows to a corpus moves none of the others.
    """
    return example.split or splits.by_prompt(example.clean)


def select(corpus: Corpus, split: Split, n: int | None, seed: int, without: Container[str] = ()) -> list[Example]:
    """The examples of a run: those of a split, or `n` of them drawn by the seed, in corpus order.

    The draw takes from each group as equally as it can, and first from groups of different relations, so that
    a small run still covers the corpus. With one seed, a smaller draw is part of a larger one; leaving rows
    out changes nothing but that the next ones of the draw take their places.

    Raises:
        ConfigError: `n` is not positive.
        DataError: the split has no rows, or fewer than `n`.
    """
    if n is not None and n <= 0:
        raise ConfigError(f"dataset.n_examples={n} must be at least 1, or null for all.")
    pool = corpus.of_split(split)
    order = [i for i in _even_order(pool, seed, split.value) if pool[i].id not in without]
    if len(order) < (n or 1):
        asked = f"dataset.n_examples={n}, but" if n else f"dataset.split={split.value}:"
        where = corpus.name if split is Split.all else f"the {split.value} split of {corpus.name}"
        rest = "" if split is Split.all else f", or draw from all {len(corpus.examples)} with dataset.split=all"
        usable = f", {len(order)} of which can be used" if len(order) < len(pool) else ""
        raise DataError(f"{asked} {where} has {len(pool)} examples{usable}. Ask for no more{rest}.")
    return [pool[index] for index in sorted(order[:n])]


def _even_order(pool: Sequence[Example], seed: int, split: str) -> list[int]:
    """The indices of the pool as they are drawn: one of each group, then a second of each, and so on."""
    shuffled = generator(seed, "examples", split).permutation(len(pool)).tolist()
    taken: dict[str, int] = defaultdict(int)  # per group
    groups: dict[str, dict[str, int]] = defaultdict(dict)  # per relation, each group's place in it
    order: list[tuple[int, int, int]] = []
    for index in shuffled:
        group, siblings = pool[index].group, groups[pool[index].relation]
        order.append((taken[group], siblings.setdefault(group, len(siblings)), index))
        taken[group] += 1
    # Sorting is stable, so ties stay in the shuffled order.
    return [index for *_, index in sorted(order, key=lambda item: item[:2])]
