"""What activation_patch refuses, and pairs of unequal lengths."""

import json

import pytest

from tests.ablations.conftest import checked
from tiny_ablation.ablations.patching.activation_patch import (
    ActivationPatchConfig,
    Direction,
    Granularity,
    PatchPositions,
    Unequal,
)
from tiny_ablation.ablations.registry import find_ablation
from tiny_ablation.errors import ConfigError, DataError

ABLATION = find_ablation("activation_patch")


def config(granularity="layer_resid", positions="last", direction="both", **keys):
    return ActivationPatchConfig(
        kind="activation_patch",
        granularity=Granularity[granularity],
        positions=PatchPositions[positions],
        direction=Direction[direction],
        **keys,
    )


def jsonl(tmp_path, *rows):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"dataset": "file", "path": str(path), "n_examples": None}


PAIR = {"clean": "The capital of France is", "corrupt": "The capital of Japan is", "target": " Paris", "foil": " Tokyo"}
LONGER = {"clean": "The capital of Italy is", "corrupt": "The old capital of Spain is", "target": " Rome", "foil": " Paris"}
ALONE = {"clean": "The capital of Spain is", "target": " Rome", "foil": " Paris"}


def test_a_missing_corrupt_prompt_is_refused_with_its_row(run_toy, tmp_path):
    rows = jsonl(tmp_path, {**PAIR, "id": "one"}, {**ALONE, "id": "lonely"})
    with pytest.raises(DataError, match="have no corrupt prompt: lonely"):
        run_toy(config(), **rows)


def test_unequal_pairs_are_refused_or_skipped(run_toy, tmp_path):
    rows = jsonl(tmp_path, {**PAIR, "id": "one"}, {**LONGER, "id": "longer"})
    with pytest.raises(DataError, match=r"1 of 2 examples differ: longer; ablation\.unequal=skip"):
        run_toy(config("mlp_out", "all"), **rows)
    run = run_toy(config("mlp_out", "all", unequal=Unequal.skip), **rows)
    assert run.examples["example_id"].unique().tolist() == ["one"]
    assert run.prepared.skipped == ["longer: its clean prompt has 5 tokens, its corrupt one 6"]


def test_unequal_pairs_are_fine_at_the_last_token(run_toy, tmp_path):
    run = run_toy(config(), **jsonl(tmp_path, {**PAIR, "id": "one"}, {**LONGER, "id": "longer"}))
    assert set(run.examples["example_id"]) == {"one", "longer"}


def test_a_prompt_without_subject_is_refused(run_toy, tmp_path):
    with pytest.raises(DataError, match="no subject in one of their prompts: one"):
        run_toy(config("mlp_out", "subject"), **jsonl(tmp_path, {**PAIR, "id": "one"}))


@pytest.mark.parametrize(
    ("cfg", "message"),
    [
        (config("layer_resid", "all"), "every layer would give the source run itself"),
        (config(heads=[1]), "granularity=layer_resid patches whole layers"),
        (config(layers=[]), r"ablation\.layers=\[\]: the list is empty"),
    ],
)
def test_what_is_meaningless_is_refused(cfg, message):
    with pytest.raises(ConfigError, match=message):
        checked(ABLATION, cfg)
