"""How heads are written, and what is refused."""

import pytest

from tiny_ablation.ablations.shared.sites import parse_head
from tiny_ablation.errors import ConfigError
from tiny_ablation.models.hookpoints import ModelShape

NINE = ModelShape(n_layers=30, n_heads=9, n_kv_heads=3, d_model=576, d_head=64, d_mlp=1536, d_vocab=10)
TWELVE = ModelShape(n_layers=12, n_heads=12, n_kv_heads=12, d_model=768, d_head=64, d_mlp=3072, d_vocab=10)


@pytest.mark.parametrize(
    ("written", "head"),
    [("5.10", (5, 10)), (0.1, (0, 1)), (11.0, (11, 0)), ("L5H10", (5, 10)), (5.11, (5, 11)), ("5.1", (5, 1))],
)
def test_notations(written, head):
    assert parse_head(written) == head


def test_a_number_that_may_have_lost_its_zero_is_refused():
    assert parse_head(5.1, NINE) == (5, 1)  # there is no 5.10
    with pytest.raises(ConfigError, match=r"ablation\.pairs: 5\.1 may mean L5H1 or L5H10.*write L5H1, or quote it"):
        parse_head(5.1, TWELVE, "ablation.pairs")
    assert parse_head(5.2, TWELVE) == (5, 2)
    assert parse_head(5.0, TWELVE) == (5, 0)


@pytest.mark.parametrize("written", [5, True, "5", "a.b", "5.-1", 1e-7, None, "5.1.2", [5, 1]])
def test_what_is_no_head(written):
    with pytest.raises(ConfigError, match=r"is not a head; write L5H10"):
        parse_head(written)


@pytest.mark.parametrize("written", ["30.0", "L0H9", 0.9])
def test_what_the_model_does_not_have(written):
    with pytest.raises(ConfigError, match="this model has layers 0 to 29 and heads 0 to 8"):
        parse_head(written, NINE)
