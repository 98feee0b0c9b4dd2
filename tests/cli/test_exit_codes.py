"""Exit codes: those of docs/reliability.md, and no others."""

import re

import pytest

from tests.cli.conftest import REPOSITORY, TOY
from tiny_ablation import errors

PAGE = (REPOSITORY / "docs/reliability.md").read_text(encoding="utf-8")
DOCUMENTED = {int(code) for code in re.findall(r"^\| (\d+) \| ", PAGE, re.MULTILINE)}


def test_every_error_has_a_documented_code():
    classes = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, errors.TinyAblateError)]
    assert {each.exit_code for each in classes} | {0} == DOCUMENTED


@pytest.mark.parametrize("page", ["README.md", "conf/hydra/help/tiny_ablate.yaml", "tiny_ablation/cli.py"])
def test_the_other_pages_list_the_same(page):
    text = re.sub(r"\s+", " ", (REPOSITORY / page).read_text(encoding="utf-8"))
    listed = re.search(r"(?:Exit codes:? )(0 done; 1 [^;]*; 2 [^;]*; 130 )", text)
    assert listed
    assert {int(code) for code in re.findall(r"(?:^|; )(\d+) ", listed[1])} == DOCUMENTED


@pytest.mark.parametrize(
    ("raised", "code", "words"),
    [
        (None, 0, ""),
        (RuntimeError("what nobody expected"), 1, "RuntimeError: what nobody expected (set HYDRA_FULL_ERROR=1"),
        (errors.NumericsError("NaN at L0H1"), 1, "NaN at L0H1"),
        (MemoryError(), 1, "memory ran out"),
        (errors.BusyError("Another process"), 2, "Another process"),
        (OSError(28, "No space left on device", "x"), 2, "Cannot write x: no space left on device"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (errors.Interrupted("interrupted; go on"), 130, "interrupted; go on"),
    ],
)
def test_how_a_run_ends_is_its_code(cli, monkeypatch, raised, code, words):
    from tiny_ablation import pipeline

    def run(*_args, **_keys):
        if raised:
            raise raised

    monkeypatch.setattr(pipeline, "run", run)
    result = cli(*TOY)
    assert result.code == code
    assert words in result.err
    assert result.err.count("\n") == (code != 0)


def test_what_nobody_expected_leaves_its_traceback_in_the_log(cli, monkeypatch, tmp_path):
    from tiny_ablation import pipeline

    def run(*_args, **_keys):
        raise RuntimeError("what nobody expected")

    monkeypatch.setattr(pipeline, "run", run)
    result = cli(*TOY, "hydra.run.dir=run")
    assert "Traceback" not in result.err
    log = (tmp_path / "run/run.log").read_text()
    assert "Traceback" in log
    assert "what nobody expected" in log
