"""The toy models: seeded, spec, and with heads that matter."""

import subprocess
import sys

import pytest
import torch

from tiny_ablation.config.schema import DatasetConfig, ModelConfig, ModelSource
from tiny_ablation.data.corpus import family_names, family_of
from tiny_ablation.errors import ConfigError
from tiny_ablation.models.sources import toy, toy_tokenizer
from tiny_ablation.models.sources.toy import toy_gpt2, toy_llama, toy_neox

SHAPES = {"llama": toy_llama, "gpt2": toy_gpt2, "neox": toy_neox}
PROMPT = "The capital of France is"
PROJECTIONS = {
    "llama": lambda model: model.model.layers[1].self_attn.o_proj,
    "gpt2": lambda model: model.transformer.h[1].attn.c_proj,
    "neox": lambda model: model.gpt_neox.layers[1].attention.dense,
}


def logits(model, tokenizer, text: str = PROMPT) -> torch.Tensor:
    with torch.no_grad():
        return model(tokenizer(text, return_tensors="pt")["input_ids"]).logits[0, -1]


def config(shape: str = "llama", seed: int = 0) -> ModelConfig:
    return ModelConfig(name="toy", source=ModelSource.toy, shape=shape, seed=seed)


@pytest.mark.parametrize("make", SHAPES.values())
def test_the_seed_decides_the_weights_and_global_randomness_is_not_touched(make) -> None:
    state = torch.get_rng_state()
    first, again, other = logits(*make(0)), logits(*make(0)), logits(*make(1))
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(first, again)
    assert not torch.allclose(first, other, atol=0.1)
    assert first.isfinite().all()


@pytest.mark.parametrize("shape", SHAPES)
def test_zeroing_a_head_moves_the_logits_by_tenths(shape: str) -> None:
    model, tokenizer = SHAPES[shape]()
    before = logits(model, tokenizer)
    for head in range(toy.N_HEADS):

        def zero(_module, args, head=head):
            z = args[0].clone()  # (1, seq, n_heads * d_head)
            z[..., head * 8 : (head + 1) * 8] = 0
            return (z,)

        handle = PROJECTIONS[shape](model).register_forward_pre_hook(zero)
        change = (logits(model, tokenizer) - before).std().item()
        handle.remove()
        assert 0.05 < change < 3


def test_the_llama_has_grouped_queries_and_tied_embeddings() -> None:
    model, _ = toy_llama()
    assert model.config.num_attention_heads == 2 * model.config.num_key_value_heads
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_an_unknown_shape_is_refused_with_the_choices() -> None:
    for act in (toy.weights_id, toy.build, toy.check):
        with pytest.raises(ConfigError, match=r"model\.shape=mamba.*llama, gpt2, neox"):
            act(config("mamba"))


def test_the_identity_names_shape_seed_and_vocabulary(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = {toy.weights_id(config(shape, seed)) for shape in SHAPES for seed in (0, 1)}
    assert len(ids) == 6
    words = (*toy_tokenizer.vocabulary(), "Ġnewword")
    monkeypatch.setattr(toy, "vocabulary", lambda: words)
    assert toy.weights_id(config()) not in ids


def test_a_new_word_changes_no_logit_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    before = logits(*toy_llama())
    words = (*toy_tokenizer.vocabulary(), "Ġnewword")
    for module in (toy, toy_tokenizer):
        monkeypatch.setattr(module, "vocabulary", lambda: words)
    after = logits(*toy_llama())
    assert len(after) == len(before) + 1
    assert torch.allclose(after[:-1], before, atol=1e-5)


@pytest.mark.parametrize("text", [PROMPT, "Zyxwv'ut  is 1732, né?\n\t", "日本 🙂", "", " ", "a" * 50, "<|endoftext|>"])
def test_any_text_is_served_and_comes_back(text: str) -> None:
    tokenizer = toy_tokenizer.toy_tokenizer()
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids) == text


def test_words_of_the_shipped_corpora_are_one_token_each_and_distinct() -> None:
    tokenizer = toy_tokenizer.toy_tokenizer()
    assert len(tokenizer(PROMPT)["input_ids"]) == 5
    ids = [tokenizer(word)["input_ids"] for word in (" Paris", "Paris", " Rome", " 17", "17")]
    assert [len(tokens) for tokens in ids] == [1] * 5
    assert len({tokens[0] for tokens in ids}) == 5
    assert len(tokenizer(" 1732")["input_ids"]) == 2
    assert len(tokenizer(" Qzxjk")["input_ids"]) > 1


@pytest.mark.parametrize("name", family_names())
def test_every_word_of_a_behaviour_that_ships_is_one_token(name: str) -> None:
    """A behaviour with new words adds them to `toy_words`, which changes the toy models: raise the result version."""
    family = family_of(DatasetConfig(name=name, family=name))
    cut = toy_tokenizer.toy_tokenizer().backend_tokenizer.pre_tokenizer.pre_tokenize_str
    examples = [e for seed in range(3) for kind in family.corruptions for e in family.build(seed, kind)]
    texts = {text for e in examples for text in (e.clean, e.corrupt, *e.right, *e.wrong)}
    pieces = {piece for text in texts for piece, (a, b) in cut(text) if text[a:b].strip().isalpha()}
    assert sorted(pieces - {*toy_tokenizer.vocabulary()}) == []


def test_the_vocabulary_is_the_fixed_list_and_nothing_else() -> None:
    """It was read from source files once, so that a docstring changed the numbers of every toy run."""
    assert toy.weights_id(config()) == "toy/llama/0/v1:b4799c8413c0"


def test_the_identity_needs_no_torch() -> None:
    code = (
        "import sys; from tiny_ablation.models import loader; from tiny_ablation.config.schema import *; "
        "loader.weights_id(ModelConfig(name='toy', source=ModelSource.toy)); "
        "print('torch' in sys.modules, 'transformers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
