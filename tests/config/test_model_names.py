"""What a model and a data set are called: by their own config, else by where they are."""

import pytest

from tiny_ablation.commands._compose import compose
from tiny_ablation.data.rows import FORMATS


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        (["model=local", "model.path=/somewhere/my-llama"], "my-llama"),
        (["model=local", "model.path=runs/step_10/"], "step_10"),
        (["model=local", "model.path=files/tiny.Q4_1.gguf"], "tiny.Q4_1"),
        (["model=local", "model.path='my model'"], "my-model"),
        (["model=local", "model.path=my-llama", "model.name=mine"], "mine"),
        (["model=hub", "model.id=EleutherAI/pythia-160m"], "pythia-160m"),
        (["model=gpt2"], "gpt2"),
    ],
)
def test_tables_call_a_model_by_where_it_is(overrides, name):
    settings = compose(overrides)
    assert settings.root.model.name == name
    assert settings.plain["model"]["name"] == name


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        (["dataset=file", "dataset.path='/somewhere/my rows.v2.csv'"], "my-rows.v2"),
        (["dataset=jsonl", "dataset.path=rows.JSONL"], "rows"),
        (["dataset=file", "dataset.path=saved.v2/"], "saved.v2"),
        (["dataset=file", "dataset.path='hub:owner/name'"], "name"),
        (["dataset=file", "dataset.path=rows.tsv", "dataset.name=mine"], "mine"),
        (["dataset=facts"], "facts"),
    ],
)
def test_tables_call_a_data_set_by_where_it_is(overrides, name):
    settings = compose(overrides)
    assert settings.root.dataset.name == name
    assert settings.plain["dataset"]["name"] == name


def test_an_option_file_may_call_the_family_by_its_older_name():
    settings = compose(["dataset=file", "dataset.family=jsonl"])
    assert settings.root.dataset.family == settings.plain["dataset"]["family"] == "file"


def test_every_format_is_left_out_of_the_name():
    assert all(compose(["dataset=file", f"dataset.path=rows{suffix}"]).root.dataset.name == "rows" for suffix in FORMATS)
