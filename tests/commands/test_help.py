"""The reference of config keys: complete, and the page is what the command prints."""

from dataclasses import fields
from pathlib import Path

import pytest

from tiny_ablation.ablations.registry import all_ablations, find_ablation
from tiny_ablation.commands._reference import header, keys, reference
from tiny_ablation.config.schema import DeviceConfig, RootConfig, StatsConfig

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference.md"


def test_the_page_is_what_the_command_prints(cli):
    assert cli("help", "config").out == PAGE.read_text(encoding="utf-8"), "run `make docs`"


def test_help_lists_the_sub_commands(cli):
    shown = cli("help").out
    assert "report " in shown
    assert "Draw the figures and the page of a run or sweep again" in shown


def test_every_key_of_every_group_and_kind_is_there():
    text = reference()
    for each in fields(RootConfig):
        if hasattr(each.type, "__dataclass_fields__") and each.name != "ablation":
            for key in fields(each.type):
                assert f"| `{each.name}.{key.name}`" in text
    for kind in all_ablations():
        section = text.split(f"### `ablation={kind}`")[1].split("\n#")[0]
        for key in fields(find_ablation(kind).config):
            assert key.name == "kind" or f"| `ablation.{key.name}`" in section


@pytest.mark.parametrize(
    ("group", "name", "values", "default", "about", "defines"),
    [
        (
            DeviceConfig,
            "threads",
            "whole number or null, at least 1 and at most 1024",
            "null",
            "CPU threads; null leaves torch's choice",
            False,
        ),
        (
            DeviceConfig,
            "dtype",
            "`float32`, `float64`, `bfloat16`, `float16`",
            "float32",
            "The precision of the forward pass; metrics are always computed in float32 or better",
            True,
        ),
        (StatsConfig, "n_boot", "whole number, at least 100 and at most 1000000", "2000", "bootstrap draws over groups", True),
    ],
)
def test_a_key_says_what_its_field_says(group, name, values, default, about, defines):
    assert (name, values, default, about, defines) in [tuple(key) for key in keys(group)]


def test_keys_that_do_not_define_a_result_are_marked():
    text = reference()
    assert "| `device.threads` *" in text
    assert "| `stats.n_boot` |" in text


def test_tables_are_whole():
    for line in reference().splitlines():
        if line.startswith("| `"):
            cells = line.replace("\\|", "").split("|")
            assert len(cells) in (4, 6), line


def test_an_option_is_explained_with_its_keys_as_it_sets_them(cli):
    shown = cli("help", "ablation=heads_mean_template").out
    assert "one mean for each wording" in shown
    assert "tiny-ablate ablation=heads_mean_template" in shown
    assert "ablation.mean=template\n" in shown
    assert "ablation.screen_top=64\n" in shown
    assert "(attribution or null)" in shown


@pytest.mark.parametrize(
    ("topic", "words"),
    [
        ("device", ("device=cuda: An NVIDIA GPU.", "device.threads=null", "does not define the result")),
        ("device.threads", ("CPU threads; null leaves torch's choice (whole number or null, at least 1",)),
        ("ablation.screen_top", ("how many of the strongest estimates are measured (whole number, at least 1)",)),
        ("experiment=robustness", ("Does it depend on how one intervenes?",)),
    ],
)
def test_groups_keys_and_experiments_are_explained(cli, topic, words):
    shown = cli("help", topic).out
    for word in words:
        assert word in shown


@pytest.mark.parametrize("group", ["ablation", "dataset", "device", "experiment", "model", "tracking", "verify"])
def test_every_option_says_what_it_is(group):
    for path in (PAGE.parents[1] / "conf" / group).glob("*.yaml"):
        assert header(path), path


def test_an_unknown_topic(cli):
    found = cli("help", "device.thread")
    assert found.code == 2
    assert "did you mean device.threads?" in found.err
