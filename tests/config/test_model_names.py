"""What a model is called: by its own config, else by where it is."""

import pytest

from tiny_ablation.commands._compose import compose


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
