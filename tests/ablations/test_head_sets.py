"""Random sets: same size, same layers, never the set itself, never twice."""

from collections import Counter

from tiny_ablation.ablations.shared.head_sets import complement, parse_sets, random_sets
from tiny_ablation.models.hookpoints import ModelShape

SHAPE = ModelShape(n_layers=12, n_heads=12, n_kv_heads=12, d_model=96, d_head=8, d_mlp=64, d_vocab=10)
SMALL = ModelShape(n_layers=2, n_heads=3, n_kv_heads=3, d_model=9, d_head=3, d_mlp=8, d_vocab=10)


def layers_of(heads):
    return Counter(layer for layer, _ in heads)


def test_notations_name_the_same_heads():
    sets = parse_sets({"a": ["5.10", 0.2], "b": ["L0H2", [5, 10]]}, SHAPE)
    assert sets == {"a": ((0, 2), (5, 10)), "b": ((0, 2), (5, 10))}


def test_random_sets_have_the_size_and_layers_of_the_set():
    heads = ((0, 1), (3, 2), (3, 7), (11, 0))
    drawn = random_sets(heads, SHAPE, 50, seed=0, name="a")
    assert len(set(drawn)) == 50
    assert heads not in drawn
    assert all(layers_of(other) == layers_of(heads) and len(set(other)) == 4 for other in drawn)
    assert {h for other in drawn for _, h in other} == set(range(12))


def test_random_sets_are_the_seeds():
    heads = ((0, 1), (3, 2))
    first = random_sets(heads, SHAPE, 10, seed=0, name="a")
    assert first == random_sets(heads, SHAPE, 10, seed=0, name="a")
    assert first != random_sets(heads, SHAPE, 10, seed=1, name="a")
    assert first != random_sets(heads, SHAPE, 10, seed=0, name="b")


def test_where_there_are_few_other_sets_all_are_taken():
    drawn = random_sets(((0, 1), (1, 0), (1, 2)), SMALL, 20, seed=0, name="a")
    assert len(drawn) == len(set(drawn)) == 3 * 3 - 1
    assert all(layers_of(other) == {0: 1, 1: 2} for other in drawn)
    assert random_sets(tuple((0, h) for h in range(3)), SMALL, 20, seed=0, name="a") == []


def test_complement():
    assert complement(((0, 1), (1, 0), (1, 2)), SMALL) == ((0, 0), (0, 2), (1, 1))
