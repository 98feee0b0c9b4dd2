"""A proof that is kept is used for the very model that it was made of, and for no other."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tiny_ablation.commands import clean
from tiny_ablation.config.schema import ModelConfig, ModelSource
from tiny_ablation.errors import ModelError
from tiny_ablation.models import kept_proofs, loader
from tiny_ablation.models.loader import LoadedModel
from tiny_ablation.models.network import Network, build_network

Make = Callable[[Path], Path]
LONGEST = 20


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("TINY_ABLATE_CACHE", str(tmp_path / "cache"))
    loader.forget()
    yield tmp_path / "cache/proofs"
    loader.forget()


@pytest.fixture
def directory(tmp_path: Path, hf_directory: Make) -> Path:
    return hf_directory(tmp_path / "model")


def load(directory: Path, dtype: str = "float32") -> LoadedModel:
    """The model of a directory, read anew."""
    loader.forget()
    cfg = ModelConfig(name="mine", source=ModelSource.local, path=str(directory))
    return loader.load_model(cfg, device="cpu", dtype=dtype)


def proven(model: LoadedModel) -> Network:
    network = build_network(model)
    network.paths(LONGEST)
    return network


def described(network: Network) -> Any:
    """All that was proven, with modules by name."""
    names = {module: name for name, module in network.hf.named_modules()}
    points = [
        {
            c: (names[p.module], p.side, None if p.units is None else p.units.tolist(), p.factor, p.label)
            for c, p in part.points.items()
        }
        for part in network.parts
    ]
    rest = [(names[part.module], names.get(part.mlp), part.refused, type(part.result)) for part in network.parts]
    paths = network.paths(LONGEST)
    return (points, rest, network.shape, paths.resume, paths.trees.nodes, paths.chunks, paths.last_mlp, paths.off)


def test_what_was_kept_is_what_was_proven_and_costs_one_short_pass(directory: Path, cache: Path) -> None:
    first = proven(load(directory))
    again = proven(load(directory))
    assert described(again) == described(first)
    assert again.model.origin == first.model.origin
    assert again.tokens == 8 < first.tokens
    assert [file.name for file in cache.glob("*/*.json")] == ["proof.json"]


@pytest.mark.slow
def test_units_that_are_not_in_order_and_factors_by_coordinate_are_kept(directory: Path) -> None:
    first = build_network(load(directory))
    z = first.hook_point("z", 0)
    assert z.units is not None
    units, factor = z.units.flip(0), torch.rand(64) + 0.1
    object.__setattr__(z, "units", units)
    object.__setattr__(first.hook_point("mlp_out", 1), "factor", factor)
    first.proof.keep_parts(first.model, first.parts, first.proof.content["shows"])
    again = build_network(load(directory))
    found = again.hook_point("z", 0).units
    assert found is not None
    assert torch.equal(found, units)
    assert torch.equal(torch.as_tensor(again.hook_point("mlp_out", 1).factor), factor)


def test_a_model_that_lies_is_refused_though_an_honest_one_was_kept_under_its_name(directory: Path) -> None:
    assert "attn_out" in proven(load(directory)).parts[0].points
    liar = load(directory)
    block: Any = liar.hf.model.layers[0]
    real = block.forward
    block.forward = lambda x, *args, **kwargs: real(x, *args, **kwargs) + 0.1 * x.tanh()
    network = build_network(liar)
    for component in ("attn_out", "mlp_out"):
        with pytest.raises(ModelError, match="do not add up to what leaves it"):
            network.hook_point(component, 0)


@pytest.mark.slow
def test_weights_that_were_changed_in_memory_are_proven_anew(directory: Path) -> None:
    proven(load(directory))
    changed = load(directory)
    changed.hf.model.layers[1].mlp.up_proj.weight.data[0, 0] += 1e-3  # pyright: ignore
    assert build_network(changed).tokens > 8


@pytest.mark.slow
@pytest.mark.parametrize(
    "damage",
    [lambda text: text[:-40], lambda text: text.replace('"side": "in"', '"side": "out"'), lambda text: ""],
    ids=["cut", "altered", "empty"],
)
def test_a_damaged_file_is_proven_anew_and_written_again(directory: Path, cache: Path, damage: Callable[[str], str]) -> None:
    first = described(proven(load(directory)))
    [file] = cache.glob("*/proof.json")
    whole = file.read_text()
    file.write_text(damage(whole))
    assert described(proven(load(directory))) == first
    assert json.loads(file.read_text()) == json.loads(whole)


@pytest.mark.slow
def test_each_of_precision_code_threads_and_libraries_has_a_proof_of_its_own(
    directory: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proven(load(directory))
    proven(load(directory, "bfloat16"))
    monkeypatch.setattr(kept_proofs, "_code", lambda: "another")
    proven(load(directory))
    monkeypatch.setattr(kept_proofs, "version", lambda name: f"another {name}")
    proven(load(directory))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 17)
    proven(load(directory))
    assert len([*cache.glob("*/proof.json")]) == 5


@pytest.mark.slow
def test_paths_that_do_not_agree_stay_off_and_those_that_failed_are_tried_again(directory: Path) -> None:
    network = proven(load(directory))
    network.proof.keep_off(32, {"resuming": "begun at block 1, logits differ from the bare model's by 1.0e+00 of their size"})
    again = build_network(load(directory))
    assert again.paths(LONGEST).resume is None
    assert again.paths(LONGEST).chunks is False
    assert again.paths(100).resume == 1  # of another length nothing is known
    again.proof.keep_off(64, {"prefix trees": "the mask has the wrong shape"})
    assert again.proof.off(64) is None


def test_a_cache_that_cannot_be_written_is_in_nobodys_way(directory: Path, cache: Path) -> None:
    cache.parent.mkdir(exist_ok=True)
    cache.write_text("a file")
    assert proven(load(directory)).paths(LONGEST).off == {}


def test_models_that_are_made_in_memory_are_proven_each_time(cache: Path) -> None:
    toy = ModelConfig(name="toy", source=ModelSource.toy)
    proven(loader.load_model(toy, device="cpu", dtype="float32"))
    assert not cache.exists()


def test_clean_knows_proofs(directory: Path, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    proven(load(directory))
    assert clean.main(["proof"]) == 0
    assert " proof " in capsys.readouterr().out
    assert clean.main(["proof", "--yes"]) == 0
    assert not [*cache.iterdir()]
