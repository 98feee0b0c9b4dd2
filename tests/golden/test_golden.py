"""Results are those on file, and the result version was raised if they are not."""

import pytest

from tests.golden import __main__ as golden_main
from tests.golden import store
from tests.golden.fingerprint import Column, _describe, differences
from tests.golden.runs import DEFAULT_MODEL, QUICK, RUNS
from tiny_ablation.ablations.registry import all_ablations
from tiny_ablation.config.identity import RESULT_VERSION

NUMBER = Column(4, 0, 1.0, 0.5, "number", "aa")


@pytest.fixture(scope="module")
def golden():
    return store.read()


def _assert_unchanged(golden, names, tmp_path):
    made = store.make(list(names), tmp_path)
    changed = {name: found for name in names if (found := differences(golden[1][name], made[name])[0])}
    assert not changed, (
        "results changed: raise RESULT_VERSION in config/identity.py, say why in CHANGELOG.md, and run "
        "`python -m tests.golden --write`"
    )


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TINY_ABLATE_CACHE", str(tmp_path / "cache"))


@pytest.mark.usefixtures("own_cache")
def test_results_of_the_quick_runs_are_unchanged(golden, tmp_path):
    _assert_unchanged(golden, QUICK, tmp_path)


@pytest.mark.slow
@pytest.mark.usefixtures("own_cache")
def test_results_of_all_runs_are_unchanged(golden, tmp_path):
    _assert_unchanged(golden, RUNS, tmp_path)


@pytest.mark.slow
def test_results_of_the_default_model_are_unchanged(golden, tmp_path):
    _assert_unchanged(golden, DEFAULT_MODEL, tmp_path)


def test_the_golden_file_is_of_this_result_version(golden):
    assert golden[0] == RESULT_VERSION, "run `python -m tests.golden --write`"
    assert {*RUNS, *DEFAULT_MODEL} == set(golden[1])


def test_every_ablation_has_a_golden_run():
    made = {value for run in RUNS.values() for value in run if value.startswith("ablation=")}
    assert {f"ablation={name}" for name in all_ablations()} <= made


@pytest.mark.parametrize(
    ("value", "version", "flags", "written"),
    [(2.0, 7, [], False), (2.0, 7, ["--raised"], True), (2.0, 8, [], True), (1.0, 7, [], True)],
    ids=["forgotten", "raised before", "raised", "the same"],
)
def test_other_numbers_are_written_only_under_another_result_version(tmp_path, monkeypatch, value, version, flags, written):
    key = ("metrics/head_impact.parquet", "value")
    monkeypatch.setattr(store, "PATH", tmp_path / "golden.csv")
    store.write(7, {"heads_zero": {key: NUMBER}})
    before = store.PATH.read_bytes()
    changed = NUMBER._replace(rms=value, sha="bb")
    monkeypatch.setattr(store, "make", lambda *_: {"heads_zero": {key: changed}})
    monkeypatch.setattr(golden_main, "RESULT_VERSION", version)
    monkeypatch.setenv("TINY_ABLATE_CACHE", "")
    assert golden_main.main(["heads_zero", "--write", *flags]) == int(not written)
    assert (store.PATH.read_bytes() != before) == written
    assert store.read()[0] == (version if written else 7)


def test_a_change_of_numbers_is_told_from_a_change_of_bytes():
    key = ("metrics/head_impact.parquet", "value")
    assert differences({key: NUMBER}, {key: NUMBER._replace(sha="bb")}) == ([], ["metrics/head_impact.parquet: value"])
    assert differences({key: NUMBER}, {key: NUMBER._replace(rms=1.01)})[0]
    assert differences({key: NUMBER}, {})[0] == ["metrics/head_impact.parquet: value: gone"]


@pytest.mark.parametrize(
    ("text", "differs"), [("[[5, ' is', 0.45856]]", False), ("[[5, ' is', 0.46856]]", True), ("[[5, ' was', 0.45855]]", True)]
)
def test_numbers_in_a_text_may_differ_by_rounding(text, differs):
    old, new = (_describe("attended", [each]) for each in ("[[5, ' is', 0.45855]]", text))
    assert bool(differences({("a", "attended"): old}, {("a", "attended"): new})[0]) == differs
