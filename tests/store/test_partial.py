import logging

import numpy as np
import pytest
from safetensors.numpy import save_file

from tiny_ablation.config.identity import Identity
from tiny_ablation.errors import ResultsError
from tiny_ablation.store.files import TEMP_PREFIX
from tiny_ablation.store.ledger import keeping
from tiny_ablation.store.partial import PartialStore, another_owner, clear_batches

RUN, OTHER = Identity("d" * 64, {"weights": "one"}), Identity("e" * 64, {"weights": "two"})


def arrays(seed=0):
    rng = np.random.default_rng(seed)
    return {
        "logit_diff": rng.normal(size=(4, 3)),
        "top": rng.integers(0, 99, size=(3,)).astype("int32"),
        "hit": np.array([True, False]),
        "transposed": rng.normal(size=(2, 5)).T,
        "scalar": np.float64(3.0),
    }


@pytest.fixture
def partial(tmp_path):
    return PartialStore(tmp_path / "partial", RUN, "layout")


def test_nothing_is_done_before_the_first_batch(partial):
    assert partial.done() == set()
    assert not partial.directory.exists()


def test_arrays_come_back_to_the_bit(partial):
    partial.save(3, arrays())
    assert partial.done() == {3}
    back = partial.load(3)
    assert back.keys() == arrays().keys()
    for name, array in arrays().items():
        np.testing.assert_array_equal(back[name], array)
        assert back[name].dtype == np.asarray(array).dtype


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-3], lambda b: b[:5], lambda b: b[:-8] + bytes([b[-8] ^ 1]) + b[-7:], lambda b: b""]
)
def test_a_damaged_batch_is_dropped_with_a_warning(partial, caplog, damage):
    partial.save(0, arrays())
    partial.save(1, arrays())
    path = partial.directory / "batch_00001.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    with caplog.at_level(logging.WARNING):
        assert partial.done() == {0}
    assert "batch 1 is computed again" in caplog.text
    assert not path.exists()


def test_a_batch_of_this_run_in_another_layout_is_dropped(partial, caplog):
    partial.save(0, arrays())
    assert PartialStore(partial.directory, RUN, "another").done() == set()
    assert "belongs to another run, layout or batch" in caplog.text


def test_the_batches_of_another_run_are_told_from_this_runs_and_from_damaged_ones(partial):
    partial.save(0, arrays())
    assert another_owner(partial.directory, RUN.digest) is None
    assert another_owner(partial.directory, OTHER.digest) == (RUN.digest, RUN.covers, 1)
    PartialStore(partial.directory / "confirm", RUN).save(0, arrays())
    assert another_owner(partial.directory, OTHER.digest).batches == 2
    for path in partial.directory.rglob("*.safetensors"):
        path.write_bytes(path.read_bytes().replace(RUN.digest.encode(), OTHER.digest.encode()))
    assert another_owner(partial.directory, RUN.digest) is None  # a flipped name is damage, not another run


def test_batches_of_an_earlier_version_are_another_runs(tmp_path):
    save_file({"a": np.zeros(2)}, tmp_path / "batch_00000.safetensors", {"digest": "old", "batch": "0"})
    assert another_owner(tmp_path, RUN.digest) == ("old", {}, 1)


def test_a_renamed_batch_is_not_taken_for_another(partial):
    partial.save(0, arrays())
    (partial.directory / "batch_00000.safetensors").rename(partial.directory / "batch_00007.safetensors")
    assert partial.done() == set()


def test_loading_a_missing_batch_says_so(partial):
    with pytest.raises(ResultsError, match=r"batch_00002\.safetensors is missing"):
        partial.load(2)


def test_clear_removes_batches_and_the_directories(partial):
    partial.save(0, arrays())
    PartialStore(partial.directory / "confirm", RUN).save(0, arrays())
    clear_batches(partial.directory)
    assert not partial.directory.exists()
    clear_batches(partial.directory)


def test_clear_leaves_what_is_no_batch(partial):
    partial.save(0, arrays())
    (partial.directory / "mine.safetensors").write_bytes(b"")
    clear_batches(partial.directory)
    assert [path.name for path in partial.directory.iterdir()] == ["mine.safetensors"]


def test_what_a_killed_worker_left_half_written_goes_with_the_batches(partial):
    with keeping(partial.directory.parent) as ledger:
        partial.save(0, arrays())
        (partial.directory / f"{TEMP_PREFIX}{ledger.token}0.safetensors").write_bytes(b"half")
        clear_batches(partial.directory)
    assert not partial.directory.exists()
