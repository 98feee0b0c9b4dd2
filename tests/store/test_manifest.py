import json

import pytest

from tiny_ablation.errors import ResultsError
from tiny_ablation.store.checksummed_json import write_sealed
from tiny_ablation.store.files import write_json, write_text
from tiny_ablation.store.ledger import keeping
from tiny_ablation.store.manifest import Problem, check_files, read_manifest, write_manifest
from tiny_ablation.store.rundir import RunDir


def a_run(path, time="12:00", **changes):
    """A finished run, and beside its files a log and what is the user's."""
    run = RunDir(path)
    kwargs = {"run_id": "abc", "status": "ok", "digest": "d", "covers": {"data": "x"}} | changes
    with run.lock(), keeping(path) as ledger:
        ledger.admit_log(run.log)
        write_json(run.summary, {"logit_diff": 1.0})
        write_json(run.provenance, {"started": time})
        write_text(run.path / "multirun.yaml", f"cwd: {path}")
        write_text(run.path / "partial" / "batch_00000.safetensors", "")
        write_manifest(run, **kwargs)
    run.log.write_text(time)
    (run.path / "thesis.tex").write_text("of the user")
    (run.metrics / "mine.txt").write_text("of the user")
    return run


def edit(path, change):
    """As another version, or someone with intent, would have written it: the seal is right."""
    content = json.loads(path.read_text())
    del content["seal"]
    change(content)
    write_sealed(path, content)


def test_manifest_comes_back(tmp_path):
    run = a_run(tmp_path, status="failed", error="boom", extra={"seed_effect": "none"})
    manifest = read_manifest(run.path)
    assert (manifest.run_id, manifest.status, manifest.error) == ("abc", "failed", "boom")
    assert manifest.extra == {"seed_effect": "none"}
    assert list(manifest.files) == ["metrics/summary.json"]
    assert manifest.machine_files == ("multirun.yaml", "provenance.json")
    assert manifest.files["metrics/summary.json"].size == run.summary.stat().st_size


def test_equal_runs_at_other_times_and_places_have_equal_manifests(tmp_path):
    one, two = a_run(tmp_path / "one"), a_run(tmp_path / "two", time="13:00")
    assert one.manifest.read_bytes() == two.manifest.read_bytes()
    assert one.machine.read_bytes() != two.machine.read_bytes()


def test_writing_twice_changes_nothing(tmp_path):
    before = a_run(tmp_path).manifest.read_bytes()
    assert a_run(tmp_path).manifest.read_bytes() == before


def test_the_jobs_of_a_sweep_and_what_is_put_there_later_are_not_its_files(tmp_path):
    a_run(tmp_path / "0")
    with RunDir(tmp_path / "1").lock():
        write_text(tmp_path / "1" / "x.txt", "a job that was killed")
    sweep = a_run(tmp_path)
    again = a_run(tmp_path)
    assert list(read_manifest(again.path).files) == ["metrics/summary.json"]
    assert read_manifest(sweep.path).machine_files == ("multirun.yaml", "provenance.json")


def test_check_finds_nothing_in_a_whole_run(tmp_path):
    assert check_files(a_run(tmp_path)) == []


@pytest.mark.parametrize("name", ["manifest.json", "machine.json"])
def test_a_manifest_that_was_altered_anywhere_is_refused(tmp_path, name):
    run = a_run(tmp_path, extra={"n_examples": 20})
    data = (tmp_path / name).read_bytes()
    for at in range(0, len(data), 7):
        altered = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        (tmp_path / name).write_bytes(altered)
        with pytest.raises(ResultsError, match=f"{name} is damaged"):
            check_files(run)


def test_a_growing_log_is_no_damage(tmp_path):
    run = a_run(tmp_path)
    run.log.write_text("more")
    assert check_files(run) == []


def test_check_names_missing_and_altered_files(tmp_path):
    run = a_run(tmp_path)
    data = bytearray(run.summary.read_bytes())
    data[5] ^= 1
    run.summary.write_bytes(data)
    run.provenance.unlink()
    assert check_files(run) == [Problem("metrics/summary.json", "altered"), Problem("provenance.json", "missing")]


def test_check_of_a_few_files(tmp_path):
    run = a_run(tmp_path)
    write_text(run.provenance, "altered")
    assert check_files(run, ["metrics/summary.json"]) == []
    write_json(run.metrics / "later.json", {})
    assert check_files(run, ["metrics/later.json", "provenance.json"]) == [
        Problem("metrics/later.json", "missing"),
        Problem("provenance.json", "altered"),
    ]


def test_a_file_that_was_altered_is_not_listed_as_written(tmp_path):
    run = a_run(tmp_path)
    run.summary.write_text("{}")
    write_manifest(run, run_id="abc", status="ok", digest="d", covers={})
    assert list(read_manifest(run.path).files) == []


def test_a_newer_figure_of_its_own_is_no_damage_and_any_other_is(tmp_path):
    """A `report` that was killed before it wrote the manifest leaves newer figures."""
    with RunDir(tmp_path).lock():
        write_text(tmp_path / "artifacts" / "map.png", "old")
    run = a_run(tmp_path)
    with run.lock():
        write_text(tmp_path / "artifacts" / "map.png", "new")
    assert check_files(run) == []
    with run.lock():
        write_json(run.summary, {"logit_diff": 2.0})
    assert check_files(run) == [Problem("metrics/summary.json", "altered")]
    (tmp_path / "artifacts" / "map.png").write_text("of somebody else")
    assert Problem("artifacts/map.png", "altered") in check_files(run)


def test_check_sees_altered_machine_files_and_a_missing_list_of_them(tmp_path):
    run = a_run(tmp_path)
    run.provenance.write_text("{}")
    assert check_files(run) == [Problem("provenance.json", "altered")]
    run.machine.unlink()
    assert check_files(run) == [Problem("machine.json", "missing")]


def test_no_manifest(tmp_path):
    with pytest.raises(ResultsError, match=r"manifest\.json is missing: this is no run directory"):
        read_manifest(tmp_path)


def test_a_newer_schema_is_refused(tmp_path):
    run = a_run(tmp_path)
    edit(run.manifest, lambda c: c.update(schema_version=99))
    with pytest.raises(ResultsError, match="schema version 99"):
        read_manifest(run.path)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../b", "..\\b", "C:x"])
@pytest.mark.parametrize("where", ["files", "machine_files"])
def test_names_outside_the_directory_are_refused(tmp_path, name, where):
    run = a_run(tmp_path)
    entry = {"sha256": "0" * 64, "size": 1}
    edit(run.manifest, lambda c: c.update({where: {name: entry} if where == "files" else [name]}))
    with pytest.raises(ResultsError, match="is damaged"):
        check_files(run)


def test_names_outside_the_directory_are_refused_in_the_machine_file(tmp_path):
    run = a_run(tmp_path)
    edit(run.machine, lambda c: c.update(files={"../x": {"sha256": "0" * 64, "size": 1}}))
    with pytest.raises(ResultsError, match=r"machine\.json is damaged"):
        check_files(run)


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.pop("digest"),
        lambda c: c.update(status="fine"),
        lambda c: c.update(files=[1]),
        lambda c: c.update(files={"a": {"sha256": "xyz", "size": 1}}),
        lambda c: c.update(machine_files=[1]),
        lambda c: c.pop("schema_version"),
    ],
)
def test_damaged_manifests_are_refused(tmp_path, change):
    run = a_run(tmp_path)
    edit(run.manifest, change)
    with pytest.raises(ResultsError, match="is damaged"):
        read_manifest(run.path)
