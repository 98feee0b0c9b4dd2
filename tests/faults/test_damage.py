"""A file that was cut short or has one flipped byte: it is named, or made again; a rerun ends in the right bytes."""

import random

import pytest

from tests.faults import scenes
from tests.faults.conftest import some
from tests.faults.harness import Scene, Unclear, Wrong, run, same

REPORT = Scene("report", ("report", "run"), scenes.run_files)
TRACKED = Scene("run, published", tuple(arg for arg in scenes.RUN.args if arg != "tracking=off"), scenes.run_files)


def damage(path, rng):
    """Cut a file short or flip a bit of one byte; says which."""
    data = path.read_bytes()
    at = rng.randrange(len(data))
    if rng.random() < 0.5:
        path.write_bytes(data[:at])
        return "file cut short"
    path.write_bytes(data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :])
    return "one flipped byte"


def choose(place, patterns, rng):
    """One file below `place`, every pattern as likely."""
    found = [files for pattern in patterns if (files := sorted(place.glob(pattern)))]
    return rng.choice(rng.choice(found))


@pytest.fixture
def damaged(undisturbed, finished, attempt, zygote):
    """Damages a file of a finished scene; what reads it must say so, and a rerun must mend it."""

    def try_it(scene, number, patterns, readers=(), advice=()):
        rng = random.Random(f"{scene.name}/{number}")
        expected, place = undisturbed(scene), finished(scene)
        path = choose(place, patterns, rng)
        kind = damage(path, rng)
        with attempt(f"{kind}: {scene.name}") as now:
            for reader in readers:
                now.asked += 1
                _reads(reader, place, expected, path, zygote)
            done = run(scene, place, zygote=zygote)
            if done.code == 2 and advice:
                now.asked += 1
                done.told(path.name, *advice)
                path.unlink()
                done = run(scene, place, zygote=zygote)
            done.worked()
            same(expected.results, scene.results(place))

    return try_it


def _reads(reader, place, expected, path, zygote):
    """Who reads the damaged file names it, or does without it."""
    done = run(reader, place, zygote=zygote)
    if done.code == 0:
        if reader.results(place) != expected.results:
            raise Wrong(f"{reader.name} took the damaged {path.name} for good")
    elif done.code != 2 or not done.is_calm or path.name not in done.err:
        raise Unclear(f"{reader.name} of a damaged {path.name}: exit code {done.code}: {done.err[-1000:]}")


RUN_FILES = (
    "run/manifest.json",
    "run/machine.json",
    "run/metrics/*.parquet",
    "run/metrics/summary.json",
    "run/config.yaml",
    "run/provenance.json",
    "run/artifacts/*",
    "run/report.html",
)


@pytest.mark.slow
@pytest.mark.parametrize("number", some(1, 8))
def test_a_file_of_a_run(damaged, number):
    damaged(scenes.RUN, number, RUN_FILES, (REPORT,))


SWEEP_FILES = (
    "sweep/toy/**/manifest.json",
    "sweep/toy/**/*.parquet",
    "sweep/toy/**/summary.json",
    "sweep/manifest.json",
    "sweep/artifacts/cross_condition/*.json",
    "sweep/artifacts/cross_condition/*.parquet",
)


@pytest.mark.parametrize("number", some(0, 5))
def test_a_file_of_a_sweep(damaged, number):
    damaged(scenes.BASIC, number, SWEEP_FILES)


@pytest.mark.parametrize("number", some(0, 1))
def test_the_plan_of_a_sweep(damaged, number):
    damaged(scenes.BASIC, number + 100, ("sweep/sweep.json",), advice=("Delete it and start the sweep again",))


@pytest.mark.parametrize("number", some(0, 3))
def test_a_model_in_the_cache(damaged, fetch, number):
    damaged(fetch, number, ("cache/models/*/*",))


@pytest.mark.parametrize("number", some(0, 3))
def test_an_autoencoder_in_the_cache(damaged, number):
    damaged(scenes.TRAINING, number, ("cache/sae/*/*.safetensors", "cache/sae/*/*.json"))


STOP = """
from tiny_ablation.sae import training
point = training._point
def stop(step, output):
    if step == 60:
        import os
        os._exit(9)
    return point(step, output)
training._point = stop
"""


@pytest.mark.parametrize("number", some(0, 4))
def test_what_a_killed_training_left(undisturbed, fresh, attempt, zygote, number):
    scene, rng = scenes.TRAINING, random.Random(number)
    expected, place = undisturbed(scene), fresh(scene)
    assert run(scene, place, prelude=STOP, zygote=zygote).code == 9
    path = choose(place, ("cache/sae/*.work/*.*", "cache/sae/*.work/step-*/*"), rng)
    with attempt(f"{damage(path, rng)}: of a killed training"):
        run(scene, place, zygote=zygote).worked()
        same(expected.results, scene.results(place))


HALF = """
from tiny_ablation.engine.executor import Executor
real = Executor.run
def stop(self, index, tick=lambda _: None):
    if index == 2:
        import os
        os._exit(9)
    return real(self, index, tick)
Executor.run = stop
"""


@pytest.mark.parametrize("number", some(0, 3))
def test_what_a_killed_run_left(undisturbed, fresh, attempt, zygote, number):
    scene, rng = scenes.RUN, random.Random(number)
    expected, place = undisturbed(scene), fresh(scene)
    assert run(scene, place, prelude=HALF, zygote=zygote).code == 9
    path = choose(place, ("run/partial/*",), rng)
    with attempt(f"{damage(path, rng)}: of a killed run"):
        done = run(scene, place, zygote=zygote)
        done.worked()
        same(expected.results, scene.results(place))


@pytest.mark.parametrize("number", some(0, 2))
def test_the_store_of_published_runs(undisturbed, finished, attempt, zygote, number):
    """It holds copies: a run ends in the right bytes whatever has become of it."""
    rng = random.Random(number)
    expected, place = undisturbed(TRACKED), finished(TRACKED)
    with attempt(f"{damage(place / 'mlflow.db', rng)}: mlflow.db") as now:
        done = run(TRACKED, place, zygote=zygote)
        done.worked()
        same(expected.results, TRACKED.results(place))
        if "Browse runs" not in done.out:
            now.asked = 1
            if "Not published to MLflow" not in done.err or "mlflow.db" not in done.err:
                raise Unclear(done.err[-2000:])
