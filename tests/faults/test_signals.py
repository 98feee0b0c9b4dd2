"""Ctrl-C, SIGTERM, a reader that goes away, a worker that hangs, a clock that is set back, two processes in one directory."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest

from tests.faults import scenes
from tests.faults.conftest import some
from tests.faults.harness import INJECT, Scene, Unclear, Wrong, family, finish, gone, run, same, start, wait_for, workers
from tests.faults.test_damage import TRACKED
from tests.faults.test_kill import check

SCENES = {"run": scenes.RUN, "sweep": scenes.BASIC, "training": scenes.TRAINING}


@pytest.fixture
def stopped(undisturbed, fresh, attempt, zygote):
    """Sends a signal at a moment drawn from the scene's duration; it says so, and a rerun goes on."""

    def stop(scene, number):
        which = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)[number % 3]
        expected, place = undisturbed(scene), fresh(scene)
        process = start(scene, place, zygote=zygote)
        time.sleep(random.Random(f"{scene.name}/{number}").uniform(0.3, expected.seconds))
        with attempt(which.name) as now:
            at_work = process.poll() is None
            members = family(process)
            process.send_signal(which)
            done = finish(process)
            gone(members)
            if at_work and done.code != 0:
                now.asked = 1
                done.interrupted()
            check(place, set())
            run(scene, place, zygote=zygote).worked()
            same(expected.results, scene.results(place))

    return stop


@pytest.mark.slow
@pytest.mark.parametrize("number", some(1, 5))
def test_a_run(stopped, number):
    stopped(scenes.RUN, number)


@pytest.mark.parametrize("number", some(0, 2))
def test_a_sweep(stopped, number):
    stopped(scenes.BASIC, number)


@pytest.mark.parametrize("number", some(0, 1))
def test_an_aggregation(stopped, aggregation, number):
    stopped(aggregation, number)


@pytest.mark.parametrize("number", some(0, 2))
def test_a_conversion(stopped, fetch, number):
    stopped(fetch, number)


@pytest.mark.parametrize("number", some(0, 3))
def test_a_training(stopped, number):
    stopped(scenes.TRAINING, number)


@pytest.mark.faults
@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_sweep_of_two_processes(undisturbed, fresh, attempt, which):
    """As Ctrl-C in a terminal, or its being closed, which all processes get."""
    scene = scenes.JOBLIB
    expected, place = undisturbed(scene), fresh(scene)
    process = start(scene, place)
    wait_for(lambda: list(place.glob("sweep/toy/**/partial")), process)
    with attempt(which.name) as now:
        now.asked, members = 1, family(process)
        process.send_signal(which) if which is signal.SIGTERM else os.killpg(process.pid, which)
        finish(process).interrupted()
        gone(members)
        run(scene, place).worked()
        same(expected.results, scene.results(place))


CLOSED = """
import os
for number in {numbers}:
    read, write = os.pipe()
    os.close(read)
    os.dup2(write, number)
"""


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("run", (1,)),
        *(
            pytest.param(*c, marks=pytest.mark.faults)
            for c in (("run", (1, 2)), ("sweep", (1,)), ("sweep", (1, 2)), ("training", (1, 2)))
        ),
    ],
)
def test_nobody_reads(undisturbed, fresh, attempt, zygote, name, numbers):
    scene = SCENES[name]
    expected, place = undisturbed(scene), fresh(scene)
    with attempt("broken pipe"):
        run(scene, place, prelude=CLOSED.format(numbers=numbers), zygote=zygote).worked()
        same(expected.results, scene.results(place))


@pytest.mark.faults
@pytest.mark.parametrize("words", ["help", "status sweep", "aggregate sweep", "--cfg job"])
def test_nobody_reads_what_a_command_says(undisturbed, finished, attempt, zygote, words):
    scene = Scene(words, tuple(words.split()), scenes.sweep_files)
    place = finished(scenes.BASIC)
    with attempt("broken pipe"):
        run(scene, place, prelude=CLOSED.format(numbers=(1,)), zygote=zygote).worked()
        same(undisturbed(scenes.BASIC).results, scene.results(place))


@pytest.mark.faults
def test_head(undisturbed, fresh, attempt):
    scene = scenes.RUN
    expected, place = undisturbed(scene), fresh(scene)
    with attempt("broken pipe"):
        process = start(scene, place)
        head = subprocess.Popen(["head", "-1"], stdin=process.stdout, stdout=subprocess.DEVNULL)
        process.stdout.close()
        process.stdout = None
        head.wait(timeout=120)
        finish(process).worked()
        same(expected.results, scene.results(place))


@pytest.mark.faults
def test_a_worker_that_hangs(undisturbed, fresh, attempt):
    scene = scenes.JOBLIB
    expected, place = undisturbed(scene), fresh(scene)
    process = start(scene, place, "hydra.launcher.timeout=45")
    wait_for(lambda: list(place.glob("sweep/toy/**/.lock-holder")), process)
    with attempt("worker that hangs") as now:
        now.asked, members = 1, family(process)
        (workers(process) or [None])[0].suspend()
        finish(process).told("did not answer in time", "run the same command", code=1)
        gone(members)
        run(scene, place).worked()
        same(expected.results, scene.results(place))


@pytest.mark.faults
def test_a_process_that_hangs_and_is_killed(undisturbed, fresh, attempt):
    scene = scenes.RUN
    expected, place = undisturbed(scene), fresh(scene)
    process = start(scene, place)
    wait_for(lambda: list(place.glob("run/partial/*")), process)
    with attempt("worker that hangs") as now:
        now.asked = 1
        process.send_signal(signal.SIGSTOP)
        run(scene, place).told("Another process", str(process.pid), "hydra.run.dir")
        process.kill()
        finish(process)
        run(scene, place).worked()
        same(expected.results, scene.results(place))


@pytest.mark.faults
@pytest.mark.parametrize(
    ("scene", "after"), [(scenes.RUN, 4.0), (scenes.BASIC, 6.0), (TRACKED, 6.0), (scenes.TRAINING, 6.0)], ids=str
)
def test_the_clock_is_set_back(undisturbed, fresh, attempt, clock, scene, after):
    expected, place = undisturbed(scene), fresh(scene)
    seen = place / "clock-seen"
    env = {"LD_PRELOAD": str(clock), "FAULT_CLOCK_BACK_AT": f"{after},3600", "FAULT_CLOCK_SEEN": str(seen)}
    with attempt("clock set back by an hour"):
        run(scene, place, env=env).worked()
        assert seen.exists()
        same(expected.results, scene.results(place))


@pytest.fixture(scope="session")
def clock(tmp_path_factory):
    """The library that stands between a process and the system's clock."""
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs a C compiler, and Linux")
    path = tmp_path_factory.mktemp("clock") / "clock.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", path, INJECT / "clock.c", "-ldl"], check=True)
    return path


@pytest.mark.faults
@pytest.mark.parametrize("name", [*SCENES, "aggregation", "fetch"])
def test_two_processes_at_once(undisturbed, fresh, attempt, aggregation, fetch, zygote, name):
    """In one directory, with one cache: one does the work, the other waits for it or is refused with a line that says why."""
    scene = {**SCENES, "aggregation": aggregation, "fetch": fetch}[name]
    expected, place = undisturbed(scene), fresh(scene)
    first = start(scene, place)
    wait_for(lambda: list(place.rglob(".lock*")) or list(place.rglob("*.lock")), first)
    with attempt("two processes in one directory") as now:
        second = run(scene, place, zygote=zygote)
        done = finish(first)
        for each in (done, second):
            if each.code != 0:
                now.asked += 1
                each.told("Another process", code=2)
        if {done.code, second.code} == {2}:
            raise Unclear("each refused the other")
        same(expected.results, scene.results(place))


@pytest.mark.faults
def test_another_run_in_the_directory_of_a_finished_one(undisturbed, finished, attempt, zygote):
    place = finished(scenes.RUN)
    with attempt("two processes in one directory") as now:
        now.asked = 1
        run(scenes.RUN, place, "ablation=mlp_zero", zygote=zygote).told("another run", "hydra.run.dir", "resume=false")
        same(undisturbed(scenes.RUN).results, scenes.run_files(place))


@pytest.mark.faults
def test_a_run_in_the_directory_of_a_sweep(undisturbed, finished, attempt, zygote):
    place = finished(scenes.BASIC)
    with attempt("two processes in one directory") as now:
        now.asked = 1
        run(scenes.RUN, place, "hydra.run.dir=sweep", zygote=zygote).told("holds a sweep", "hydra.run.dir")
        same(undisturbed(scenes.BASIC).results, scenes.sweep_files(place))


@pytest.mark.slow
def test_a_run_that_replaces_another_leaves_nothing_of_it(undisturbed, finished, fresh, attempt, zygote):
    """resume=false is how it is asked for."""
    place, alone = finished(scenes.RUN), fresh(scenes.RUN)
    with attempt("two processes in one directory"):
        for where in (place, alone):
            run(scenes.RUN, where, "ablation=mlp_zero", "resume=false", zygote=zygote).worked()
        if scenes.run_files(place) != scenes.run_files(alone):
            raise Wrong("files of two runs stand in one directory")
