"""Workers of one run: each batch once, a dead worker's too; one of them ends the run; results are those of one process."""

import json

import numpy as np
import pytest

from tiny_ablation.ablations.registry import run_spec
from tiny_ablation.commands._compose import composed
from tiny_ablation.config.settings import to_settings
from tiny_ablation.run import workers
from tiny_ablation.run.measure import batches_of, executors, measure, store_of
from tiny_ablation.run.prepare import prepare_run
from tiny_ablation.run.workers import working
from tiny_ablation.store.ledger import keeping
from tiny_ablation.store.manifest import write_manifest
from tiny_ablation.store.rundir import RunDir

TOY = ("model=toy", "dataset.relations=null", "dataset.n_examples=20", "device.threads=1", "run.shards=3")


@pytest.fixture(scope="module")
def run():
    """A prepared run of three workers, and its executors."""
    prepared = prepare_run(run_spec(to_settings(composed(list(TOY)))))
    return prepared, executors(prepared)


@pytest.fixture
def rundir(tmp_path):
    with keeping(tmp_path):
        yield RunDir(tmp_path)


def ignore(_done):
    pass


def enter(run, rundir):
    with working(*run[:1], rundir, run[1], ignore) as last:
        return last


def test_there_are_twice_as_many_batches_as_workers_at_least(run):
    assert len(batches_of(run[1])) >= 5  # even shares have room for one prompt more


def test_one_worker_alone_ends_the_run_with_the_numbers_of_an_undivided_one(run, rundir, tmp_path):
    prepared, work = run
    assert enter(run, rundir)
    [found] = measure(prepared, rundir, work, ignore)
    whole = prepared.spec.settings.root.run
    whole.shards = 1
    try:
        alone = executors(prepared)
        assert len(batches_of(alone)) < len(batches_of(work))
        [expected] = measure(prepared, RunDir(tmp_path / "alone"), alone, ignore)
    finally:
        whole.shards = 3
    np.testing.assert_array_equal(found.examples, expected.examples)
    for name, values in expected.values.items():
        np.testing.assert_allclose(found.values[name], values, atol=2e-5)


def test_an_interrupted_worker_keeps_its_batches_and_another_does_the_rest(run, rundir, monkeypatch):
    computed, real = [], workers.compute

    def compute(executor, batch, tick):
        if len(computed) == 2:
            raise KeyboardInterrupt
        computed.append(batch)
        return real(executor, batch, tick)

    monkeypatch.setattr(workers, "compute", compute)
    with pytest.raises(KeyboardInterrupt):
        enter(run, rundir)
    assert not any(rundir.claims.iterdir())
    computed.clear()
    total = len(batches_of(run[1]))
    monkeypatch.setattr(workers, "compute", lambda *args: computed.append(args[1]) or real(*args))
    assert enter(run, rundir)
    assert len(computed) == total - 2


def claim(rundir, run, part, **changed):
    """A claim of a process that is not this one; it lives as long as this one does."""
    store = store_of(*run[:1], rundir, run[1])
    claims = workers.Claims(rundir.claims, store.layout, 60)
    with claims.holding(part):
        path = rundir.claims / f"{part}.0"
        said = json.loads(path.read_text()) | changed
    path.write_text(json.dumps(said))
    return path


def test_what_a_killed_worker_claimed_is_taken_up(run, rundir):
    claim(rundir, run, "batch_1", started=1.0)
    claim(rundir, run, "end", started=1.0)
    assert enter(run, rundir)


def test_a_batch_that_another_worker_is_at_is_waited_for(run, rundir, monkeypatch):
    path, store = claim(rundir, run, "batch_1"), store_of(*run[:1], rundir, run[1])
    looked = []

    def sleep(_seconds):
        looked.append(1)
        assert not store.has(1)
        if len(looked) == 2:  # the other worker is killed
            path.unlink()

    monkeypatch.setattr(workers.time, "sleep", sleep)
    assert enter(run, rundir)
    assert len(looked) == 2


def test_a_batch_that_was_finished_before_its_claim_was_seen_is_not_computed_again(run, rundir, monkeypatch):
    computed, real = [], workers.compute
    monkeypatch.setattr(workers, "compute", lambda *args: computed.append(args[1]) or real(*args))
    store = type(store_of(*run[:1], rundir, run[1]))
    seen, has = [], store.has

    def late(self, batch):  # the first look comes too early
        seen.append(batch)
        return has(self, batch) if seen.count(batch) > 1 else False

    assert enter(run, rundir)
    computed.clear()
    monkeypatch.setattr(store, "has", late)
    assert enter(run, rundir)
    assert computed == []


def test_where_another_worker_ends_the_run_this_one_leaves(run, rundir):
    claim(rundir, run, "end")
    assert not enter(run, rundir)


def test_a_worker_that_comes_late_computes_nothing(run, rundir, monkeypatch):
    identity = run[0].identity
    write_manifest(rundir, run_id=identity.run_id, status="ok", digest=identity.digest, covers={}, error=None, extra={})
    monkeypatch.setattr(workers, "compute", lambda *_: pytest.fail("the run was finished"))
    assert not enter(run, rundir)
