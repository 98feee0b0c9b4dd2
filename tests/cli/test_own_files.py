"""A run or sweep writes in a directory of its own; a user's files stay as they are, whatever the directory is."""

import shutil

import pytest

from tests.cli.conftest import TOY, deterministic_files
from tiny_ablation.store.manifest import check_files, read_manifest
from tiny_ablation.store.rundir import RunDir

QUICK = (*TOY, "verify=off", "dataset.n_examples=8", "stats.n_boot=100", "stats.n_perm=100")
THEIRS = (
    "thesis.tex",
    "config.yaml",
    "env.txt",
    "notes/a.ipynb",
    "metrics/summary.json",
    "run.log",
    ".tmp-draft.md",
    "multirun.yaml",
    "report.html",
    ".hydra/config.yaml",
)


def files(place):
    """Every file under a directory, and what it holds."""
    return {p.relative_to(place).as_posix(): p.read_bytes() for p in place.rglob("*") if p.is_file()}


def write(place, *names):
    for name in names:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(f"of the user: {name}")


def refused(result, *words):
    assert result.code == 2, result
    line = result.err.strip()
    assert line.startswith("tiny-ablate: error: ")
    assert "\n" not in line
    for word in words:
        assert word in line


@pytest.mark.parametrize("place", [".", "mine"])
@pytest.mark.parametrize("many", [False, True])
def test_a_directory_with_files_of_the_users_is_refused_untouched(cli, tmp_path, place, many):
    given = ("-m", "seed=0,1", f"hydra.sweep.dir={place}") if many else (f"hydra.run.dir={place}", "resume=false")
    key = "hydra.sweep.dir=DIR" if many else "hydra.run.dir=DIR"
    for theirs in [THEIRS, *((name,) for name in THEIRS)]:
        write(tmp_path / place, *theirs)
        before = files(tmp_path)
        refused(cli(*QUICK, *given), "not on record", theirs[0] if len(theirs) == 1 else "...", key, "move these")
        assert files(tmp_path) == before
        for path in sorted(tmp_path.iterdir()):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def test_what_is_put_into_the_directory_of_a_run_stays_there_and_is_none_of_its_files(cli, tmp_path):
    """Notebooks beside the results, then `report`, another run in its place, and a refusal of a third."""
    place, theirs = (tmp_path / "run", ("thesis.tex", "metrics/mine.csv", "artifacts/mine.png", "artifacts/.tmp-mine"))
    assert cli(*QUICK, "hydra.run.dir=run").code == 0
    first = set(read_manifest(place).files)
    write(place, *theirs)
    before = {name: data for name, data in files(place).items() if name in theirs}
    assert cli("report", "run").code == 0
    assert set(read_manifest(place).files) == first
    assert cli(*QUICK, "seed=1", "hydra.run.dir=run").code == 2
    assert cli(*QUICK, "seed=1", "resume=false", "hydra.run.dir=run").code == 0
    assert set(read_manifest(place).files) == first
    assert check_files(RunDir(place)) == []
    assert {name: data for name, data in files(place).items() if name in theirs} == before


def test_what_the_user_changed_is_kept_when_the_run_is_made_again(cli, tmp_path):
    assert cli(*QUICK, "hydra.run.dir=run").code == 0
    place, whole = tmp_path / "run", deterministic_files(tmp_path / "run")
    for name in ("config.yaml", "report.html", "metrics/head_impact.parquet", "manifest.json"):
        (place / name).write_text(f"altered: {name}")
    assert cli(*QUICK, "hydra.run.dir=run").code == 0
    assert deterministic_files(place) == whole
    for name in ("config.yaml", "report.html", "metrics/head_impact.parquet", "manifest.json"):
        assert (place / f"{name}.kept").read_text() == f"altered: {name}"


def test_a_page_that_the_user_changed_is_kept_when_it_is_drawn_again(cli, tmp_path):
    assert cli(*QUICK, "hydra.run.dir=run").code == 0
    (tmp_path / "run/report.html").write_text("with my notes")
    assert cli("report", "run").code == 0
    assert (tmp_path / "run/report.html.kept").read_text() == "with my notes"


def test_an_empty_working_directory_may_be_the_directory_of_a_run(cli, tmp_path):
    assert cli(*QUICK, "hydra.run.dir=.").code == 0
    assert cli(*QUICK, "hydra.run.dir=.").code == 0
    assert check_files(RunDir(tmp_path)) == []


LINKS = ("run.log", "run.log.1", ".lock", ".lock-holder", ".ledger", "metrics", "artifacts", "partial", "manifest.json")


@pytest.mark.parametrize("when", ["before", "after"])
def test_links_are_not_followed_out(cli, tmp_path, when):
    theirs, place = tmp_path / "theirs", tmp_path / "run"
    write(theirs, "thesis.tex", "batch_00000.safetensors", "summary.json")
    before = files(theirs)
    if when == "after":
        assert cli(*QUICK, "hydra.run.dir=run").code == 0
    for name in LINKS:
        link, aside = place / name, tmp_path / "aside"
        place.mkdir(exist_ok=True)
        if link.exists():
            link.rename(aside)
        link.symlink_to(theirs / "thesis.tex" if "." in name else theirs)
        refused(cli(*QUICK, "hydra.run.dir=run"), name)
        if when == "after":
            refused(cli("report", "run"), name)
        assert files(theirs) == before
        link.unlink()
        if aside.exists():
            aside.rename(link)


@pytest.mark.parametrize("key", ["hydra.run.dir", "hydra.sweep.dir"])
def test_what_cannot_be_a_directory(cli, tmp_path, key):
    (tmp_path / "file").write_text("of the user")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    many = ("-m", "seed=0,1") if key == "hydra.sweep.dir" else ()
    long = ("x" * 300, "x/" * 3000 + "x")
    for place in ("file", "file/x", "/dev/null", "dangling", "dangling/x", "loop", *long):
        refused(cli(*many, *QUICK, f"{key}={place}"), f"{key}=", "cannot be used")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["dangling", "file", "loop"]


def test_hydra_writes_nothing_of_its_own(cli, tmp_path):
    refused(cli(*QUICK, "hydra.run.dir=run", "hydra.output_subdir=.hydra"), "hydra.output_subdir")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_one_file_that_hydra_writes_into_a_sweep_is_on_record(cli, tmp_path):
    grid = ("-m", *QUICK, "seed=0,1", "hydra.sweep.dir=sweep", "hydra/launcher=basic")
    assert cli(*grid).code == 0
    assert "multirun.yaml" in read_manifest(tmp_path / "sweep").machine_files
    write(tmp_path / "sweep", "multirun.yaml", "thesis.tex")
    assert cli(*grid).code == 0
    assert (tmp_path / "sweep/multirun.yaml.kept").read_text() == "of the user: multirun.yaml"
    assert check_files(RunDir(tmp_path / "sweep")) == []
    assert "thesis.tex" not in read_manifest(tmp_path / "sweep").files
