"""Models whose weights are on disk: the engine's numbers, nothing left in memory, and what cannot be placed."""

import gc
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tiny_ablation.ablations.patching.noise import noise_on
from tiny_ablation.ablations.shared.replacements import Scale
from tiny_ablation.commands._compose import compose
from tiny_ablation.config.schema import DeviceConfig, DType, ModelConfig, ModelSource, Weights
from tiny_ablation.engine.bare.model import Bare
from tiny_ablation.engine.edits import Edit, Intervention
from tiny_ablation.engine.executor import Executor
from tiny_ablation.engine.norms import head_norms
from tiny_ablation.errors import ConfigError, ModelError
from tiny_ablation.metrics.registry import metric
from tiny_ablation.models import loader
from tiny_ablation.models.network import build_network
from tiny_ablation.models.onednn_linear import available
from tiny_ablation.models.placed import Placement, computing, is_placed, numbers, placement, weight_like
from tiny_ablation.verify.plain import _differences

NOTHING, SOME = "1KB", "540KB"  # of the toy model's weights in memory: none, the embeddings


def load(directory: Path, memory: str | None = NOTHING, dtype: str = "float32", **chosen: object) -> loader.LoadedModel:
    cfg = replace(ModelConfig(name="mine", source=ModelSource.local, path=str(directory)), **chosen)
    placed = memory and Placement((("cpu", memory),), "cpu")
    model = loader.load_model(cfg, device="cpu", dtype=dtype, placed=placed or None)
    loader.forget()
    return model


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.models.conftest import write_directory

    return write_directory(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def networks(directory: Path):
    """The same model in memory, on disk, and in part on disk."""
    return {memory: build_network(load(directory, memory)) for memory in (None, NOTHING, SOME)}


def on_meta(hf) -> set[bool]:
    return {parameter.is_meta for parameter in hf.parameters()}


PLAN = [Intervention((Edit(c, layer, unit, Scale(0.0)),)) for c, unit in (("z", 1), ("mlp_out", None)) for layer in (0, 1)]
PLAN.append(Intervention((Edit("z", 1, 0, Scale(0.0), "last"),)))


@pytest.mark.parametrize("memory", [NOTHING, SOME])
def test_effects_are_those_of_the_model_in_memory(networks, make_prompts, memory):
    network, whole = networks[memory], networks[None]
    prompts = make_prompts(whole.shape.d_vocab)
    assert network.paths(9).off == whole.paths(9).off == {}
    results = [list(Executor(n, prompts, PLAN, [metric("logit_diff")])) for n in (network, whole)]
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours.values["logit_diff"], theirs.values["logit_diff"], atol=2e-5, rtol=0)
    assert on_meta(network.hf) == ({True} if memory == NOTHING else {True, False})


def test_what_reads_weights_itself_gets_numbers(networks, make_prompts):
    network, whole = networks[NOTHING], networks[None]
    assert torch.equal(numbers(network.unembed), numbers(whole.unembed))
    prompts = make_prompts(whole.shape.d_vocab)
    norms = [head_norms(n, prompts, "all") for n in (network, whole)]
    np.testing.assert_allclose(*norms, rtol=1e-5)
    tables = [noise_on(n, prompts, "subject", 3.0, 0, 0).edits[0].replacement.lookup._table for n in (network, whole)]
    torch.testing.assert_close(*tables)
    assert (weight_like(network.hf).device.type, weight_like(network.hf).dtype) == ("cpu", torch.float32)
    assert not any(available(networks[memory]) for memory in (NOTHING, SOME))  # packed products would be a copy in memory


def test_a_module_that_computed_something_else_reads_its_weights_again(networks):
    network, ids = networks[NOTHING], torch.arange(5)[None]
    before = network.forward(ids).logits
    for module, other in (
        (network.blocks[0], lambda x, *_args, **_kwargs: x),
        (network.hook_point("z", 0).module, torch.zeros_like),
    ):
        with computing(module, other):
            assert not torch.equal(network.forward(ids).logits, before)
        assert torch.equal(network.forward(ids).logits, before)


def test_gradients_go_through(networks):
    ids, found = torch.arange(5)[None], []
    for network in (networks[NOTHING], networks[None]):
        x = torch.zeros(1, 5, network.shape.d_model, requires_grad=True)
        with network.parts[0].points["resid_pre"].attach(lambda given, x=x: given + x):
            network.forward(ids).logits[0, -1, 3].backward()
        found.append(x.grad)
    torch.testing.assert_close(*found, atol=1e-6, rtol=1e-4)


def test_the_reference_computes_from_disk_in_double_precision(directory, networks):
    whole = networks[None]
    fresh = loader.load_plain(
        ModelConfig(name="mine", source=ModelSource.local, path=str(directory)),
        dtype="float32",
        weights=whole.model.weights_hash,
        on_disk=True,
    )
    assert list(_differences(networks[NOTHING].hf, fresh)) == []
    from tiny_ablation.verify.plain import _widened

    logits = _widened(fresh, DType.float64).run([3, 4, 5]).logits
    assert logits.dtype == torch.float64
    exact = Bare(
        loader.load_plain(
            ModelConfig(name="mine", source=ModelSource.local, path=str(directory)),
            dtype="float64",
            weights=whole.model.weights_hash,
        )
    )
    torch.testing.assert_close(logits, exact.run([3, 4, 5]).logits, atol=1e-6, rtol=0)
    assert on_meta(fresh) == {True}


def test_a_weight_that_is_not_as_in_the_files_is_found(directory, networks, tmp_path):
    from tests.models.conftest import write_directory

    other = load(write_directory(tmp_path / "other", seed=1)).hf
    found = dict(_differences(networks[NOTHING].hf, other))
    assert set(found) == {"other"}
    assert "is not what transformers loads" in found["other"]


def test_another_precision_is_written_beside_and_goes_with_the_model(directory, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    model = load(directory, dtype="bfloat16")
    logits = model.hf(input_ids=torch.arange(5)[None]).logits
    assert logits.dtype == torch.bfloat16
    assert any(tmp_path.iterdir())
    del model
    gc.collect()
    assert not any(tmp_path.iterdir())


def test_what_is_where_is_on_record(networks):
    assert networks[NOTHING].model.origin["placed"] == "0.000566 GB disk"
    assert networks[SOME].model.origin["placed"] == "0.000492 GB cpu, 7.44e-05 GB disk"
    assert "placed" not in networks[None].model.origin
    assert not is_placed(networks[None].hf)


def test_a_model_that_fits_is_placed_like_any_other(directory):
    assert not is_placed(load(directory, "2MB").hf)


@pytest.mark.parametrize(
    ("cfg", "device", "told"),
    [
        (DeviceConfig(cpu_memory="8GB"), "cpu", "device.cpu_memory says how device.map=auto"),
        (DeviceConfig(map="auto"), "mps", "shares the machine's memory"),
    ],
)
def test_a_placement_that_makes_no_sense_is_refused(cfg, device, told):
    with pytest.raises(ConfigError, match=told):
        placement(cfg, device)


def test_a_size_that_is_none_is_refused(directory):
    with pytest.raises(ConfigError, match="'much' is no size of memory"):
        load(directory, "much")


def test_weights_that_are_computed_are_refused(directory):
    with pytest.raises(ModelError, match=r"does not go with model\.weights=folded"):
        load(directory, weights=Weights.folded)
    with pytest.raises(ModelError, match="a model that is made in memory"):
        loader.load_model(
            ModelConfig(name="toy", source=ModelSource.toy),
            device="cpu",
            dtype="float32",
            placed=Placement((("cpu", "1KB"),), "cpu"),
        )


def test_the_keys_do_not_identify_a_run():
    placed = compose(["model=toy", "device.map=auto", "device.cpu_memory=1GB", "device.gpu_memory=2GB"])
    assert placed.defining == compose(["model=toy"]).defining


@pytest.mark.slow
def test_the_default_model_from_disk_takes_less_than_half_of_its_memory_in_every_stage(tmp_path):
    """Beyond what the same command takes with a model of half a megabyte, which is libraries."""
    run = ("tracking=off", "dataset.n_examples=6", "device.threads=1", "device.batch_tokens=128")
    large = ("ablation.layers=[0,29]", "device.map=auto", "device.cpu_memory=20MB")
    small = ("model=toy", "dataset.relations=null", "verify.mode=cpu")
    most = {}
    for name, own in {"large": large, "small": small}.items():
        command = [sys.executable, "-m", "tiny_ablation", *run, *own, f"hydra.run.dir={name}"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, done.stderr
        stages = json.loads((tmp_path / name / "metrics/profile.json").read_text())["stages"]
        most[name] = {stage: found["rss_peak_bytes"] for stage, found in stages.items()}
    taken = {stage: most["large"][stage] - most["small"][stage] for stage in most["small"]}
    assert max(taken.values()) < 538e6 / 2, taken
