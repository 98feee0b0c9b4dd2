"""kill -9 in a sweep, then other weights, data or libraries: it is never gone on with as if nothing had changed.

`make faults` tries twenty times; the normal suite a few.
"""

import random
import time

import pytest

from tests.faults import scenes
from tests.faults.conftest import some
from tests.faults.harness import Wrong, finish, gone, run, same, start, wait_for
from tests.faults.test_kill import kill
from tiny_ablation.store.files import read_json, read_table
from tiny_ablation.store.manifest import read_manifest
from tiny_ablation.store.sweepdir import SweepDir, read_plan

CHANGES = ("weights", "data", "library")


@pytest.mark.parametrize("number", some(3, 20))
@pytest.mark.slow
def test_a_killed_sweep_goes_on_as_it_was_begun_or_anew(undisturbed, fresh, attempt, zygote, number):
    rng, change = random.Random(f"content/{number}"), CHANGES[number % 3]
    processes = 2 if number % 4 == 3 else 1
    old = scenes.begun(processes)
    new = scenes.anew(change)
    place, seconds = fresh(old), undisturbed(scenes.begun()).seconds
    with attempt("kill -9, then other weights, data or libraries") as now:
        process = start(old, place, zygote=None if processes > 1 else zygote)
        wait_for((place / "sweep/sweep.json").is_file, process)
        time.sleep(rng.uniform(0, seconds))
        if process.poll() is None:
            kill(process, rng)
        else:
            finish(process)
        scenes.put_content(place, change)
        if rng.random() < 0.5:
            run(scenes.aggregation_of_what_is_there(), place, zygote=zygote)
            unmixed(place)
        before, now.asked = manifests(place), 1
        refused = run(old, place, prelude=new.prelude, env=new.env, zygote=zygote)
        refused.told("was begun with other content", "hydra.sweep.dir=DIR", "resume=false")
        if manifests(place) != before:
            raise Wrong("finished cells were touched by a sweep that was refused")
        if rng.random() < 0.5:
            scenes.put_content(place, "")
            run(old, place, zygote=zygote).worked()
            same(undisturbed(old).results, old.results(place))
        else:
            run(new, place, zygote=zygote).worked()
            same(undisturbed(new).results, new.results(place))
        unmixed(place)


@pytest.mark.faults
@pytest.mark.parametrize("number", range(4))
def test_content_that_changes_while_a_sweep_runs(undisturbed, fresh, attempt, zygote, number):
    """The cells that follow fail by name; bringing the content back and running again mends them."""
    rng, processes, change = random.Random(f"running/{number}"), 1 + number % 2, CHANGES[number // 2]
    scene = scenes.begun(processes)
    expected, place = undisturbed(scene), fresh(scene)
    with attempt("weights or data that change while a sweep runs") as now:
        process = start(scene, place, zygote=zygote if processes == 1 else None)
        wait_for(lambda: list(place.glob("sweep/**/manifest.json")), process)
        time.sleep(rng.uniform(0, 0.5 * expected.seconds))
        scenes.put_content(place, change)
        done = finish(process)
        gone([])
        unmixed(place)
        if done.code:
            now.asked = 1
            if done.code != 1 or "has changed since it was planned" not in done.err:
                raise Wrong(done.err[-2000:])
        scenes.put_content(place, "")
        run(scene, place, zygote=zygote).worked()
        same(expected.results, scene.results(place))


def manifests(place):
    """What every cell is, as far as it says so."""
    return {path: path.read_bytes() for path in place.glob("sweep/**/manifest.json")}


def unmixed(place):
    """All runs in the matrices of a sweep are made of the same.

    Raises:
        Wrong: they are not.
    """
    sweep = SweepDir(place / "sweep")
    if not sweep.summary.is_file():
        return
    used = [cell for cell in read_json(sweep.summary)["cells"] if cell["status"] == "ok"]
    tables = [read_table(path) for path in sweep.cross.glob("*_matrix.parquet")]
    in_tables = {run_id for table in tables for run_id in table["run_id"]}
    if in_tables != {cell["run_id"] for cell in used}:
        raise Wrong("the matrices hold other runs than the summary says")
    of = {cell.dir: cell for cell in read_plan(sweep.path).cells}
    made_of = set()
    for each in used:
        manifest = read_manifest(sweep.run(of[each["dir"]]).path)
        if manifest.run_id == each["run_id"]:  # else it was replaced since, and the matrices are made anew at the end
            made_of.add(str({key: value for key, value in manifest.covers.items() if key != "config"}))
    if len(made_of) > 1:
        raise Wrong(f"a mixed matrix: {made_of}")
