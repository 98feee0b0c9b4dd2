"""The one entrance: what is loaded, what is kept, and what is refused."""

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
import torch

from tiny_ablation.config.schema import ModelConfig, ModelSource, Weights
from tiny_ablation.errors import ConfigError, DeviceError, ModelError
from tiny_ablation.models import loader
from tiny_ablation.models.sources import local
from tiny_ablation.models.sources.files import checksum

Make = Callable[[Path], Path]


def config(**changes: object) -> ModelConfig:
    return ModelConfig(**{"name": "toy", "source": ModelSource.toy, **changes})  # pyright: ignore


def load(cfg: ModelConfig, device: str = "cpu", dtype: str = "float32") -> loader.LoadedModel:
    return loader.load_model(cfg, device=device, dtype=dtype)


@pytest.fixture(autouse=True)
def _nothing_held():
    loader.forget()
    yield
    loader.forget()


def test_a_loaded_model_is_ready_to_run() -> None:
    loaded = load(config())
    assert not loaded.hf.training
    assert not any(parameter.requires_grad for parameter in loaded.hf.parameters())
    assert loaded.hf.config._attn_implementation == "sdpa"
    assert loaded.weights_hash == loader.weights_id(config())
    assert loaded.origin == {"source": "toy", "weights": "raw", "opening": "none"}
    assert loaded.name == "toy"


def test_models_are_loaded_once_in_whatever_order_they_are_asked_for() -> None:
    first, second = load(config()), load(config(seed=1))
    assert second is not first
    assert load(config()) is first
    assert load(config(seed=1)) is second


def test_the_model_used_longest_ago_goes_when_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    import psutil

    first, second = load(config()), load(config(seed=1))
    assert load(config()) is first
    size = sum(p.nbytes for p in first.hf.parameters())
    monkeypatch.setattr(loader, "_SHARE_HELD", 2.5 * size / psutil.virtual_memory().total)
    third = load(config(seed=2))
    assert list(loader._held.values()) == [first, third]
    assert load(config(seed=1)) is not second


@pytest.mark.parametrize("change", [{"dtype": "float64"}, {"weights": Weights.folded}, {"shape": "gpt2"}])
def test_what_changes_the_model_is_part_of_the_key(change: dict[str, object]) -> None:
    first = load(config())
    dtype = str(change.get("dtype", "float32"))
    assert load(config(**{k: v for k, v in change.items() if k != "dtype"}), dtype=dtype) is not first


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
@pytest.mark.parametrize("weights", [Weights.raw, Weights.folded])
def test_the_precision_is_the_one_asked_for(dtype: str, weights: Weights) -> None:
    loaded = load(config(shape="gpt2", weights=weights), dtype=dtype)
    assert {parameter.dtype for parameter in loaded.hf.parameters()} == {getattr(torch, dtype)}
    assert loaded.origin["weights"] == weights.value


def test_folding_is_done_before_the_precision_is_cut(tmp_path: Path, hf_directory: Make) -> None:
    directory = hf_directory(tmp_path / "model")
    cfg = config(source=ModelSource.local, path=str(directory), weights=Weights.folded)
    exact = load(cfg).hf.lm_head.weight.to(torch.bfloat16)
    assert torch.equal(load(cfg, dtype="bfloat16").hf.lm_head.weight, exact)


@pytest.mark.parametrize(
    ("cfg", "context"),
    [
        (config(shape="llama"), 512),
        (config(shape="gpt2"), 512),
        (config(shape="neox"), 512),
        (config(source=ModelSource.tracr, shape="reverse"), None),
    ],
)
def test_how_much_a_model_reads_is_known_with_and_without_its_weights(cfg: ModelConfig, context: int | None) -> None:
    loaded = load(cfg)
    table = next((p for n, p in loaded.hf.named_parameters() if n.endswith("wpe.weight")), None)
    expected = context if table is None else len(table)
    assert loaded.context == loader.load_tokenizer(cfg).context == expected


def test_how_much_a_model_in_files_reads_is_what_its_config_says(tmp_path: Path, hf_directory: Make) -> None:
    directory = hf_directory(tmp_path / "model")
    cfg = config(source=ModelSource.local, path=str(directory))
    assert loader.load_tokenizer(cfg).context == load(cfg).hf.config.max_position_embeddings
    said = json.loads((directory / "config.json").read_text())
    del said["max_position_embeddings"]
    (directory / "config.json").write_text(json.dumps(said | {"model_type": "bloom"}))
    assert loader.load_tokenizer(cfg).context is None


def test_a_toy_has_no_files_and_its_shape_is_checked() -> None:
    assert loader.prepare(config()) is None
    with pytest.raises(ConfigError, match=r"model\.shape=rwkv"):
        loader.prepare(config(shape="rwkv"))


def test_remote_code_is_announced(tmp_path: Path, capsys: pytest.CaptureFixture[str], hf_directory: Make) -> None:
    directory = hf_directory(tmp_path / "model")
    loader.prepare(config(source=ModelSource.local, path=str(directory), trust_remote_code=True))
    assert "model.trust_remote_code=true runs the code" in capsys.readouterr().err


def alter(directory: Path) -> None:
    """Write another value into the weights, in place."""
    weights = directory / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)


def test_weights_that_were_exchanged_are_loaded_anew_under_their_own_hash(tmp_path: Path, hf_directory: Make) -> None:
    directory = hf_directory(tmp_path / "model")
    cfg = config(source=ModelSource.local, path=str(directory))
    first = load(cfg)
    assert load(cfg) is first
    alter(directory)
    second = load(cfg)
    assert second.weights_hash == local.weights_id(cfg) != first.weights_hash
    pairs = zip(first.hf.parameters(), second.hf.parameters(), strict=True)
    assert not all(torch.equal(one, other) for one, other in pairs)
    assert list(loader._held.values()) == [second]


@pytest.mark.parametrize("part", ["_read_model", "_read_tokenizer"])
def test_files_that_change_while_they_are_loaded_are_refused(
    tmp_path: Path, hf_directory: Make, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    directory = hf_directory(tmp_path / "model")
    read = getattr(loader, part)

    def and_alter(*args: object, **how: object) -> object:
        found = read(*args, **how)
        alter(directory)
        return found

    monkeypatch.setattr(loader, part, and_alter)
    with pytest.raises(ModelError, match="changed while they were loaded"):
        load(config(source=ModelSource.local, path=str(directory)))
    assert not loader._held


def test_a_loaded_model_does_not_change_with_its_files(tmp_path: Path, hf_directory: Make) -> None:
    directory = hf_directory(tmp_path / "model")
    hf = load(config(source=ModelSource.local, path=str(directory))).hf
    before = {name: tensor.clone() for name, tensor in hf.state_dict().items()}
    weights = directory / "model.safetensors"
    with weights.open("r+b") as file:  # in place, as a training that saves its next checkpoint there
        file.seek(weights.stat().st_size // 2)
        file.write(b"\x01" * (weights.stat().st_size // 4))
    assert all(torch.equal(before[name], tensor) for name, tensor in hf.state_dict().items())


def test_a_file_written_twice_in_one_tick_of_the_clock_has_two_hashes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for i in range(100):
        path.write_bytes(f"{i:03}".encode())
        assert checksum(path) == sha256(f"{i:03}".encode()).hexdigest()


def test_a_device_that_is_not_there_is_one_message() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(DeviceError, match="device=cuda"):
        load(config(), device="cuda")


def test_loading_does_not_touch_global_randomness(tmp_path: Path, hf_directory: Make) -> None:
    directory = hf_directory(tmp_path / "model")
    state = torch.get_rng_state()
    load(config(source=ModelSource.local, path=str(directory)))
    assert torch.equal(state, torch.get_rng_state())


def test_the_default_model_is_the_pinned_one_and_knows_its_facts(smollm2: loader.LoadedModel) -> None:
    ids = smollm2.tokenizer("The capital of France is", return_tensors="pt")["input_ids"]
    logits = smollm2.hf(ids).logits[0, -1]
    assert smollm2.tokenizer.decode(logits.argmax()) == " Paris"
    assert smollm2.opening == ()
    assert smollm2.weights_hash == "gguf:b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
    assert smollm2.hf.lm_head.weight is smollm2.hf.model.embed_tokens.weight
    assert (smollm2.hf.config.num_hidden_layers, smollm2.hf.config.num_attention_heads) == (30, 9)


def test_what_verifies_a_run_is_the_model_that_it_loaded(tmp_path: Path, hf_directory: Make) -> None:
    directory = hf_directory(tmp_path / "model")
    cfg = config(source=ModelSource.local, path=str(directory))
    first = load(cfg)
    plain = loader.load_plain(cfg, dtype="float32", weights=first.weights_hash)
    assert torch.equal(plain.lm_head.weight, first.hf.lm_head.weight)
    alter(directory)
    with pytest.raises(ModelError, match="changed since the run loaded them"):
        loader.load_plain(cfg, dtype="float32", weights=first.weights_hash)
