"""A full disk and a directory that cannot be written: one line says so, nothing is lost, and a rerun with room ends well."""

import os
import random
import resource

import pytest

from tests.faults import scenes
from tests.faults.conftest import some
from tests.faults.harness import Unclear, run, same
from tests.faults.test_kill import check

# The forked process writes what it prints into files, which the limit would hit as well.
LIMITED = """
import os, resource
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))
"""


@pytest.fixture
def full(undisturbed, fresh, attempt, zygote, small_disk):
    """Runs a scene with too little room, then with enough."""

    def by_limit(scene, size):
        expected, place = undisturbed(scene), fresh(scene)
        with attempt("full disk: a limit on the size of files") as now:
            done = run(scene, place, prelude=LIMITED.format(size=size), zygote=zygote)
            _told(done, now, "file too large", "written to its end")
            _goes_on(scene, place, expected)

    def by_disk(scene, where, size):
        expected, place = undisturbed(scene), fresh(scene)
        small_disk(place / where, f"size={size}")
        with attempt("full disk: a small file system") as now:
            done = run(scene, place, zygote=zygote)
            _told(done, now, "no space left", "written to its end")
            small_disk(place / where, "size=200m")
            _goes_on(scene, place, expected)

    def _goes_on(scene, place, expected):
        check(place, set())
        run(scene, place, zygote=zygote).worked()
        same(expected.results, scene.results(place))

    return by_limit, by_disk


def _told(done, now, *words):
    """Where there was too little room, it says so; a sweep names each cell that had too little."""
    if done.code == 0:
        return
    now.asked += 1
    if not done.is_calm or "HYDRA_FULL_ERROR" in done.err or not any(word in done.err.lower() for word in words):
        raise Unclear(f"exit code {done.code}: {done.err[-2000:]}")
    if done.code != 1 or "warning: " not in done.err:
        done.told()


def size_of(number, scene, most):
    """Bytes, drawn so that every power of two is as likely."""
    return int(2 ** random.Random(f"{scene.name}/{number}").uniform(11, most))


@pytest.mark.parametrize("number", some(1, 4))
def test_a_run_with_a_limit(full, number):
    full[0](scenes.RUN, size_of(number, scenes.RUN, 20))


@pytest.mark.parametrize("number", some(0, 1))
def test_a_sweep_with_a_limit(full, number):
    full[0](scenes.BASIC, size_of(number, scenes.BASIC, 18))


@pytest.mark.parametrize("number", some(0, 1))
def test_an_aggregation_with_a_limit(full, aggregation, number):
    full[0](aggregation, size_of(number, aggregation, 20))


@pytest.mark.parametrize("number", some(0, 2))
def test_a_conversion_with_a_limit(full, fetch, number):
    full[0](fetch, size_of(number, fetch, 20))


@pytest.mark.parametrize("number", some(0, 3))
def test_a_training_with_a_limit(full, number):
    full[0](scenes.TRAINING, size_of(number, scenes.TRAINING, 18))


@pytest.mark.parametrize("number", some(0, 3))
def test_a_run_on_a_small_disk(full, number):
    full[1](scenes.RUN, "run", size_of(number, scenes.RUN, 22) + 4096)


@pytest.mark.parametrize("number", some(0, 1))
def test_a_sweep_on_a_small_disk(full, number):
    full[1](scenes.BASIC, "sweep", size_of(number, scenes.BASIC, 22) + 4096)


@pytest.mark.parametrize("number", some(0, 2))
def test_a_conversion_on_a_small_disk(full, fetch, number):
    full[1](fetch, "cache", size_of(number, fetch, 20) + 4096)


@pytest.mark.parametrize("number", some(0, 3))
def test_a_training_on_a_small_disk(full, number):
    full[1](scenes.TRAINING, "cache", size_of(number, scenes.TRAINING, 19) + 4096)


READ_ONLY = [(scenes.RUN, "run"), (scenes.BASIC, "sweep"), (scenes.TRAINING, "cache")]


@pytest.mark.parametrize(
    ("scene", "where"), [pytest.param(*case, marks=pytest.mark.faults) for case in READ_ONLY], ids=lambda x: str(x)[:5]
)
def test_a_directory_that_cannot_be_written(undisturbed, fresh, attempt, zygote, small_disk, scene, where):
    expected, place = undisturbed(scene), fresh(scene)
    small_disk(place / where, "size=100m")
    small_disk(place / where, "ro")
    with attempt("read-only directory") as now:
        now.asked = 1
        run(scene, place, zygote=zygote).told("ead-only file system")
        small_disk(place / where, "rw")
        run(scene, place, zygote=zygote).worked()
        same(expected.results, scene.results(place))


@pytest.mark.faults
def test_a_run_that_is_started_where_nothing_can_be_written(fresh, attempt, zygote, small_disk):
    """The directory of the run is the default one, below the place it was started in."""
    place = fresh(scenes.RUN)
    small_disk(place, "size=1m")
    (place / ".stdout").touch()
    scene = scenes.Scene("", (*scenes.RUN.args[:-1],), scenes.run_files)
    with attempt("read-only directory") as now:
        now.asked = 1
        small_disk(place, "ro")
        run(scene, place).told("ead-only file system", "hydra.run.dir")


@pytest.mark.faults
@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_a_directory_without_permission(fresh, attempt):
    place = fresh(scenes.RUN)
    (place / "run").mkdir(mode=0o555)
    with attempt("read-only directory") as now:
        now.asked = 1
        run(scenes.RUN, place).told("ermission denied", "check the permissions")


@pytest.mark.faults
def test_a_real_process_with_a_limit(undisturbed, fresh, attempt):
    expected, place = undisturbed(scenes.RUN), fresh(scenes.RUN)
    with attempt("full disk: a limit on the size of files") as now:
        now.asked = 1
        done = run(scenes.RUN, place, limits={resource.RLIMIT_FSIZE: 10_000})
        done.told("file too large", "ulimit -f")
        run(scenes.RUN, place).worked()
        same(expected.results, scenes.RUN.results(place))
