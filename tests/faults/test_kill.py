"""kill -9, at random moments and before chosen file operations: a rerun ends in the bytes of an undisturbed run."""

import random
import signal
import time

import pytest

from tests.faults import scenes
from tests.faults.conftest import some
from tests.faults.harness import INJECT, Lost, end, family, finish, gone, run, same, start, workers
from tiny_ablation.store.files import read_json, read_table

KILLS = 6  # in one chain: kill, go on, kill, ...
START = 4.0  # seconds that Python and the libraries take before the command begins


@pytest.fixture
def chain(undisturbed, fresh, attempt, zygote):
    """Kills a scene again and again at moments drawn uniformly from its undisturbed duration, then lets it finish."""

    def kill_and_go_on(scene, number, kills=KILLS):
        forked = None if number == 1 or scene is scenes.JOBLIB else zygote  # some from the very start of Python
        expected = undisturbed(scene)
        seconds = expected.seconds + (0 if forked else START)
        _chain(scene, random.Random(f"{scene.name}/{number}"), kills, expected, seconds, fresh, attempt, forked)

    return kill_and_go_on


def _chain(scene, rng, kills, expected, seconds, fresh, attempt, forked):
    with attempt(f"kill -9: {scene.name}") as now:
        now.tries, place = 0, fresh(scene)
        for _ in range(3 * kills):
            process = start(scene, place, zygote=forked)
            time.sleep(rng.uniform(0, seconds))
            if process.poll() is None:
                kept = batches(place)
                kill(process, rng)
                now.tries += 1
                check(place, kept)
            else:  # it was done before its moment came
                done = finish(process)
                done.worked()
                same(expected.results, scene.results(place))
                place = fresh(scene)
            if now.tries == kills:
                break
        run(scene, place, zygote=forked).worked()
        same(expected.results, scene.results(place))


def kill(process, rng):
    """The process, or one of its workers, or all of them at once as when the machine is switched off."""
    members, how = family(process), rng.choice(("all", "parent", "worker"))
    mine = workers(process)
    if how == "worker" and mine:
        rng.choice(mine).kill()
        done = finish(process)
        done.told("worker process was killed", "run the same command", code=1) if done.code else None
    elif how == "all":
        end(process)
    else:
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
    gone(members)


def batches(place):
    """The finished batches of a run."""
    return {path.relative_to(place) for path in place.rglob("partial/**/batch_*.safetensors")}


def check(place, kept):
    """What a killed process leaves: files that are whole, and every batch that was finished before."""
    for path in place.rglob("*"):
        if path.name.startswith(".") or "cache" in path.relative_to(place).parts:
            continue
        if path.suffix == ".json":
            read_json(path)
        elif path.suffix == ".parquet":
            read_table(path)
    if missing := [b for b in kept - batches(place) if not (place / b.parts[0] / "manifest.json").is_file()]:
        raise Lost(f"batches that were finished are gone: {missing}")


@pytest.mark.parametrize("number", some(1, 12))
def test_a_run(chain, number):
    chain(scenes.RUN, number, KILLS if number else 3)


@pytest.mark.parametrize("number", some(0, 5))
def test_a_sweep_in_one_process(chain, number):
    chain(scenes.BASIC, number)


@pytest.mark.parametrize("number", some(0, 3))
def test_a_sweep_in_two_processes(chain, number):
    chain(scenes.JOBLIB, number, 3)


@pytest.mark.parametrize("number", some(0, 6))
def test_an_aggregation(chain, aggregation, number):
    chain(aggregation, number)


@pytest.mark.parametrize("number", some(0, 5))
def test_a_model_is_fetched_and_converted(chain, fetch, number):
    chain(fetch, number)


@pytest.mark.parametrize("number", some(0, 5))
def test_an_autoencoder_is_trained(chain, number):
    chain(scenes.TRAINING, number)


@pytest.fixture
def at_operations(undisturbed, fresh, attempt, zygote):
    """Kills a scene just before chosen changes of its to the file system, the last of them first, then lets it finish."""
    tripwire = (INJECT / "sitecustomize.py").read_text()

    def kill_and_go_on(scene, number, of=KILLS):
        def go(place, at, **env):
            env = {"FAULT_KILL_AT": str(at), "FAULT_KILL_UNDER": str(place), **env}
            return run(scene, place, prelude=tripwire, env=env, zygote=zygote)

        expected, place = undisturbed(scene), fresh(scene)
        count = place.parent / "count"
        go(place, 0, FAULT_COUNT=str(count)).worked()
        rng, place = random.Random(f"{scene.name}/{number}"), fresh(scene)
        points = sorted(rng.sample(range(1, int(count.read_text()) + 1), of), reverse=True)
        with attempt(f"kill -9 before a file operation: {scene.name}") as now:
            now.tries = 0
            for at in points:
                done = go(place, at)
                if done.code == -signal.SIGKILL:
                    now.tries += 1
                    check(place, set())
                else:  # what the kills before have left to do is less than that
                    done.worked()
                    place = fresh(scene)
            run(scene, place, zygote=zygote).worked()
            same(expected.results, scene.results(place))

    return kill_and_go_on


@pytest.mark.parametrize("number", some(0, 2))
def test_before_operations_of_a_run(at_operations, number):
    at_operations(scenes.RUN, number)


@pytest.mark.parametrize("number", some(0, 1))
def test_before_operations_of_a_sweep(at_operations, number):
    at_operations(scenes.BASIC, number)


@pytest.mark.parametrize("number", some(0, 1))
def test_before_operations_of_an_aggregation(at_operations, aggregation, number):
    at_operations(aggregation, number)


@pytest.mark.parametrize("number", some(0, 1))
def test_before_operations_of_a_conversion(at_operations, fetch, number):
    at_operations(fetch, number)


@pytest.mark.parametrize("number", some(0, 2))
def test_before_operations_of_a_training(at_operations, number):
    at_operations(scenes.TRAINING, number)
