"""`tiny-ablate models`, and the page that it writes."""

from pathlib import Path

import pytest

from tiny_ablation.commands import _architectures, models
from tiny_ablation.commands._architectures import examined

PAGE = (Path(__file__).resolve().parents[2] / "docs/models.md").read_text()
FEW = ("llama", "gpt2", "gemma2", "gemma3n_text", "bamba", "minicpm3", "hrm_text")


@pytest.mark.slow
def test_the_page_in_the_docs_is_in_step(cli):
    found = cli("models", *FEW, "--json").json()
    assert [each["name"] for each in found] == list(FEW)
    rows = [line for line in cli("models", *FEW).out.splitlines() if line.startswith(("| ", "- hrm_text"))]
    assert len(rows) == 2 + len(FEW)
    for row in rows:
        assert row in PAGE.splitlines(), row


def test_what_is_said_of_a_few(cli):
    llama, hybrid, looped = cli("models", "llama", "bamba", "hrm_text", "--json").json()
    assert set(llama["components"].values()) == {"exact"}
    assert llama["off"] == {}
    assert llama["meets_bar"]
    assert hybrid["components"]["z"] == "exact"
    assert "prefix trees" in hybrid["off"]
    assert not looped["meets_bar"]
    assert "run 6 times a pass" in looped["error"]


def test_the_page_can_be_written_elsewhere(cli, tmp_path):
    assert cli("models", "llama", "--out", "here/models.md").code == 0
    assert "| llama | exact |" in (tmp_path / "here/models.md").read_text()


def test_an_unknown_architecture(cli):
    result = cli("models", "lama")
    assert result.code == 2
    assert "did you mean llama?" in result.err


def _ends(_sender, names):
    if names[0] == "first":
        raise SystemExit(1)


def _hangs(sender, names):
    if names[0] == "first":
        import time

        time.sleep(60)
    for name in names:
        sender.send(_architectures._failed(name, "", built=True))


@pytest.mark.slow
@pytest.mark.parametrize(("work", "said"), [(_ends, "ended"), (_hangs, "longer than 5 s")])
def test_an_architecture_that_ends_or_holds_up_the_process_does_not_stop_the_others(monkeypatch, work, said):
    monkeypatch.setattr(_architectures, "_work", work)
    monkeypatch.setattr(_architectures, "_SECONDS", 5)
    first, second = examined(["first", "second"])
    assert said in first.error
    assert not first.built
    assert second.name == "second"
    assert (second.error == "") == (work is _hangs)


def test_the_page_names_every_architecture_once():
    from tiny_ablation.models.random_models import architectures

    rows = [line.split(" ", 2)[1] for line in PAGE.splitlines() if line.startswith("| ")]
    for name in architectures():
        named = name in rows or f"\n- {name}: " in PAGE
        assert named, name
    assert models._COLUMNS.keys() >= {"heads", "MLPs", "residual streams"}
