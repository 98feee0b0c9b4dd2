"""A sweep over models measures all of them on the same rows."""

import json
import re

import pandas as pd
import pytest

from tests.cli.conftest import write_rows
from tests.models.conftest import write_directory

KEYS = ("tracking=off", "verify=off", "dataset.n_examples=8", "ablation.layers=[0]", "stats.n_boot=200")


@pytest.mark.slow
def test_true_means_the_models_of_the_sweep(cli, tmp_path):
    """The planted model's tokenizer knows letters only, so it serves fewer rows than the toy's."""
    letters = [{"clean": f" {x} a b a", "target": " n", "foil": " o", "group": x} for x in "cdeghijklm"]
    words = [
        {"clean": f"The capital of {where} is", "target": " Paris", "foil": " Rome", "group": str(i)}
        for i, where in enumerate(("France", "Italy", "Spain"))
    ]
    write_rows(tmp_path / "rows.jsonl", *letters, *words)
    # -m in the midst of overrides, where Hydra does not take it
    result = cli(
        "model=toy,planted",
        "-m",
        *KEYS,
        "dataset=jsonl",
        "dataset.path=rows.jsonl",
        "dataset.unscorable=skip",
        "dataset.common_rows=true",
        "hydra.sweep.dir=sweep",
    )
    assert result.code == 0, result.err
    rows, unscorable = [], []
    for name in ("toy", "planted"):
        (metrics,) = tmp_path.glob(f"sweep/{name}/*/*/*/metrics")
        rows.append(set(pd.read_parquet(metrics / "per_example.parquet")["example_id"]))
        unscorable.append(json.loads((metrics / "summary.json").read_text())["unscorable"])
    assert len(rows[0]) == 8
    assert rows[0] == rows[1]
    assert unscorable[0] == unscorable[1]
    assert all(reason.startswith("planted: ") for reason in unscorable[0]["rows"].values())
    assert unscorable[0]["count"] == 3


@pytest.fixture
def theirs(tmp_path):
    """A model of the user's own, as `model=theirs`, beside the working directory."""
    place = tmp_path.parent / f"{tmp_path.name}-options"
    (place / "model").mkdir(parents=True)
    (place / "model/theirs.yaml").write_text(f"name: theirs\nsource: local\npath: {place / 'files'}\n")
    write_directory(place / "files")
    return place


def with_another_token(directory):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(directory)
    tokenizer.add_tokens(["Pa"])  # which makes two tokens of Paris
    tokenizer.save_pretrained(directory)


@pytest.mark.slow
@pytest.mark.parametrize("many", [False, True])
def test_the_tokenizers_that_choose_the_rows_are_part_of_what_a_run_is(cli, tmp_path, theirs, many):
    """Another tokenizer of the other model may leave other rows."""
    place = ("-m", "seed=0,1", "hydra.sweep.dir=out", "hydra/launcher=basic") if many else ("hydra.run.dir=out",)
    args = (f"--config-dir={theirs}", "model=toy", "dataset=facts", *KEYS, "dataset.common_rows=[theirs]", *place)
    assert cli(*args).code == 0
    assert cli(*args).code == 0
    with_another_token(theirs / "files")
    refused = cli(*args)
    assert refused.code == 2
    assert re.search(r"tokenizer of theirs files:\w+, prepend_bos=auto there, files:", refused.err)
    assert cli(*args, "resume=false").code == 0


def test_true_in_a_single_run_is_refused(cli, tmp_path):
    result = cli("model=toy", *KEYS, "dataset=induction_tokens", "dataset.common_rows=true")
    assert result.code == 2
    assert "single run" in result.err
    assert not list(tmp_path.iterdir())
