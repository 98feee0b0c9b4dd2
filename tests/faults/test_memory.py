"""Memory that runs out, in truth and as an exception: the run goes on with less at once, or says so and keeps what it has."""

import random
import resource

import pytest

from tests.faults import scenes
from tests.faults.conftest import some
from tests.faults.harness import Scene, Unclear, run, same

# From so many calls on, a forward pass with interventions has no memory; `once`: only that one has none.
NO_MEMORY = """
from tiny_ablation.engine.forward import Passes
real, calls = Passes.edited, [0]
def edited(*args):
    calls[0] += 1
    if calls[0] == {at} or (calls[0] > {at} and not {once}):
        raise {error}
    return real(*args)
Passes.edited = edited
"""
# Several interventions in one pass, so that there is something to halve.
WIDE = Scene("run, wide", (*scenes.RUN.args, "device.batch_tokens=1024"), scenes.run_files)
ERRORS = ("MemoryError()", 'RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can\'t allocate memory")')


@pytest.mark.parametrize("number", some(1, 3))
def test_a_pass_without_memory_is_made_in_halves(undisturbed, fresh, attempt, zygote, number):
    scene, rng = WIDE, random.Random(number)
    expected, place = undisturbed(scene), fresh(scene)
    prelude = NO_MEMORY.format(at=rng.randint(3, 6), once=True, error=rng.choice(ERRORS))
    with attempt("out of memory: as an exception"):
        run(scene, place, prelude=prelude, zygote=zygote).worked()
        same(expected.results, scene.results(place))


@pytest.mark.parametrize("number", some(0, 3))
def test_no_memory_at_all_is_one_line(undisturbed, fresh, attempt, zygote, number):
    scene, rng = (scenes.RUN, scenes.BASIC)[number % 2], random.Random(number)
    expected, place = undisturbed(scene), fresh(scene)
    prelude = NO_MEMORY.format(at=rng.randint(1, 20), once=False, error=rng.choice(ERRORS))
    with attempt("out of memory: as an exception") as now:
        now.asked = 1
        done = run(scene, place, prelude=prelude, zygote=zygote)
        if done.code != 1 or not done.is_calm or "memory ran out" not in done.err or "HYDRA" in done.err:
            raise Unclear(done.err[-2000:])
        run(scene, place, zygote=zygote).worked()
        same(expected.results, scene.results(place))


# So much more address space than the process has after the imports.
SCARCE = """
import resource
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + {more}
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
"""


@pytest.mark.parametrize("number", some(0, 6))
def test_little_address_space(undisturbed, fresh, attempt, fetch, zygote, number):
    scene = (scenes.RUN, scenes.RUN, scenes.TRAINING, fetch, scenes.BASIC)[number % 5]
    expected, place = undisturbed(scene), fresh(scene)
    more = int(2 ** random.Random(number).uniform(16, 28))
    with attempt("out of memory: a limit on the address space") as now:
        done = run(scene, place, prelude=SCARCE.format(more=more), zygote=zygote)
        if done.code != 0:
            now.asked = 1
            now.unclear = int(done.code < 0)  # a library written in another language gave up
            if not done.is_calm or "memory" not in done.err:
                raise Unclear(f"{more:,} more bytes: exit code {done.code}: {done.err[-2000:]}")
        run(scene, place, zygote=zygote).worked()
        same(expected.results, scene.results(place))


@pytest.mark.faults
@pytest.mark.parametrize("megabytes", [700, 1800])
def test_little_address_space_from_the_start(undisturbed, fresh, attempt, zygote, megabytes):
    """Even the libraries may not fit, which then end the process in ways of their own; whatever happens, nothing is wrong."""
    scene = scenes.RUN
    expected, place = undisturbed(scene), fresh(scene)
    with attempt("out of memory: a limit on the address space") as now:
        done = run(scene, place, limits={resource.RLIMIT_AS: megabytes << 20})
        if done.code == 0:
            same(expected.results, scene.results(place))
        now.asked = now.unclear = int(done.code != 0)
        run(scene, place, zygote=zygote).worked()
        same(expected.results, scene.results(place))
