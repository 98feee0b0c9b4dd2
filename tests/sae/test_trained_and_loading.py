"""Autoencoders in the cache, in SAELens' format, and those that do not belong here."""

import json
import shutil

import numpy as np
import pytest
import torch

from tiny_ablation.config.schema import ModelConfig, ModelSource, SaeArchitecture, SaeConfig, Weights
from tiny_ablation.errors import ConfigError, Interrupted, ModelError
from tiny_ablation.models.loader import load_model
from tiny_ablation.models.network import build_network
from tiny_ablation.sae import trained as trained_module
from tiny_ablation.sae.loading import inputs, obtain, read
from tiny_ablation.sae.site import Site
from tiny_ablation.sae.trained import is_whole, recipe, trained


@pytest.fixture
def network(toy_networks):
    return toy_networks["llama"]


@pytest.mark.parametrize("architecture", ["batchtopk", "topk", "jumprelu", "standard"])
def test_saelens_alone_can_load_it(network, cache, small, architecture):
    from sae_lens import SAE

    directory = trained(recipe(network, small(architecture=SaeArchitecture(architecture)), 0))
    sae = SAE.load_from_disk(directory)
    assert sae.cfg.metadata.hook_name == "blocks.1.hook_out"
    assert sae.cfg.metadata.model_name == "toy"
    assert sae.cfg.metadata.tiny_ablation["weights"] == network.model.weights_hash
    x = torch.randn(4, 32)
    assert torch.equal(read(directory, "cpu").encode(x).output, sae(x))
    keys = list(json.loads((directory / "cfg.json").read_text()))
    assert keys == sorted(keys)  # in the order of SAELens, two processes would write different bytes
    record = json.loads((directory / "trained.json").read_text())
    assert len(record["curve"]) == 12
    assert record["quality"]["tokens"] == 8 * 15
    assert np.isfinite(record["quality"]["ce_recovered"])


def test_it_is_trained_once_and_made_again_when_damaged(network, cache, small):
    first = trained(recipe(network, small(), 0))
    stamp = (first / "cfg.json").stat().st_mtime_ns
    assert trained(recipe(network, small(checkpoint_every=3), 0)) == first
    assert (first / "cfg.json").stat().st_mtime_ns == stamp
    assert trained(recipe(network, small(), 1)) != first
    assert trained(recipe(network, small(k=4), 0)) != first
    weights = (first / "sae_weights.safetensors").read_bytes()
    (first / "sae_weights.safetensors").write_bytes(weights[:-1] + b"x")
    assert not is_whole(first)
    assert (trained(recipe(network, small(), 0)) / "sae_weights.safetensors").read_bytes() == weights
    trained(recipe(network, small(), 0), anew=True)
    assert (first / "cfg.json").stat().st_mtime_ns > stamp


def test_other_libraries_train_another(network, cache, small, monkeypatch):
    before = recipe(network, small(), 0).directory
    monkeypatch.setattr(trained_module, "numeric_versions", lambda: {"torch": "9.9"})
    assert recipe(network, small(), 0).directory != before


@pytest.mark.parametrize("name", ["contexts.npz", "contexts.json", "clock.json", "step-*/*.safetensors", "step-*/files.json"])
def test_what_an_interrupted_training_left_is_not_used_when_damaged(network, cache, small, name, monkeypatch, capsys):
    whole = trained(recipe(network, small(), 0))
    expected = (whole / "sae_weights.safetensors").read_bytes()
    shutil.rmtree(whole)

    def stop(*_args, **_keys):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("tiny_ablation.sae.quality.quality", stop)
        with pytest.raises(Interrupted):
            trained(recipe(network, small(), 0))
    (path,) = list(cache.glob(f"sae/*.work/{name}"))[:1]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    again = trained(recipe(network, small(), 0))
    assert (again / "sae_weights.safetensors").read_bytes() == expected
    assert ("begins anew" in capsys.readouterr().err) == (name != "clock.json")


def test_what_a_training_left_that_was_killed_at_its_very_end_is_cleared(network, cache, small):
    done = trained(recipe(network, small(), 0))
    work = done.with_name(f"{done.name}.work")
    work.mkdir()
    (work / "activations.f32").write_bytes(b"gigabytes")
    assert trained(recipe(network, small(), 0)) == done
    assert not work.exists()


@pytest.mark.parametrize("stage", ["trained._contexts", "trained.fill_buffer", "quality.quality", "trained.peak_memory"])
def test_interrupted_anywhere_it_ends_in_the_same_weights(network, cache, small, stage, monkeypatch):
    whole = trained(recipe(network, small(), 0))
    expected = (whole / "sae_weights.safetensors").read_bytes()
    shutil.rmtree(whole)

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(f"tiny_ablation.sae.{stage}", interrupt)
        with pytest.raises(Interrupted, match="last checkpoint"):
            trained(recipe(network, small(), 0))
    assert not whole.exists()
    assert (trained(recipe(network, small(), 0)) / "sae_weights.safetensors").read_bytes() == expected
    assert not list(cache.glob("sae/*.work"))


@pytest.fixture
def saved(network, cache, small, tmp_path):
    directory = tmp_path / "mine"
    shutil.copytree(trained(recipe(network, small(), 0)), directory)
    return directory


def altered(directory, **metadata):
    cfg = json.loads((directory / "cfg.json").read_text())
    cfg["metadata"].update(metadata)
    (directory / "cfg.json").write_text(json.dumps(cfg))


def test_a_path_is_used_as_it_is(network, saved):
    found = obtain(network, SaeConfig(path=str(saved)), 0)
    assert found.site == Site("resid_post", 1)
    assert found.trained["quality"]["tokens"] > 0
    assert inputs(SaeConfig(path=str(saved))) == found.identity


def one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)


def test_another_model_is_refused(toy_networks, network, saved):
    with pytest.raises(ModelError, match="trained on the model") as error:
        obtain(toy_networks["gpt2"], SaeConfig(path=str(saved)), 0)
    assert "sae.other_model=true" in one_line(error)
    assert obtain(toy_networks["gpt2"], SaeConfig(path=str(saved), other_model=True), 0).n_features == 24
    altered(saved, tiny_ablation=None, model_name="someone/else")
    with pytest.raises(ModelError, match="someone/else"):
        obtain(network, SaeConfig(path=str(saved)), 0)
    altered(saved, model_name="hub-owner/toy")
    assert obtain(network, SaeConfig(path=str(saved)), 0).n_features == 24


def test_another_hook_is_refused(network, saved):
    with pytest.raises(ConfigError, match=r"belongs at blocks\.1\.hook_out.*blocks\.0"):
        obtain(network, SaeConfig(path=str(saved), layer=0), 0)
    with pytest.raises(ConfigError, match="hook_mlp_out"):
        obtain(network, SaeConfig(path=str(saved), component="mlp_out"), 0)
    altered(saved, hook_name="blocks.7.hook_resid_post")
    with pytest.raises(ModelError, match=r"blocks\.7.*2 layers of 32"):
        obtain(network, SaeConfig(path=str(saved)), 0)
    altered(saved, hook_name="hook_embed")
    with pytest.raises(ModelError, match="hook_embed"):
        obtain(network, SaeConfig(path=str(saved)), 0)


def test_another_width_is_refused(known_networks, saved):
    with pytest.raises(ModelError, match="32 dimensions") as error:
        obtain(known_networks["induction"], SaeConfig(path=str(saved), other_model=True), 0)
    one_line(error)


def test_no_autoencoder_at_all(network, tmp_path):
    with pytest.raises(ModelError, match=r"sae\.path.*no sae_weights"):
        obtain(network, SaeConfig(path=str(tmp_path)), 0)
    (tmp_path / "sae_weights.safetensors").write_bytes(b"no weights")
    with pytest.raises(ModelError, match="cannot be read by SAELens") as error:
        obtain(network, SaeConfig(path=str(tmp_path)), 0)
    one_line(error)


@pytest.mark.parametrize("change", [{"hook_name": 3}, {"hook_name": ["blocks.1.hook_out"]}])
def test_a_description_of_other_types_is_one_message(network, saved, change):
    altered(saved, **change)
    with pytest.raises(ModelError, match="cannot be read by SAELens") as error:
        obtain(network, SaeConfig(path=str(saved)), 0)
    one_line(error)


@pytest.mark.parametrize("width", ["8", [8], 2**63, -1, None])
def test_a_width_that_is_none_is_one_message(network, saved, width):
    path = saved / "cfg.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"d_in": width}))
    with pytest.raises(ModelError) as error:
        obtain(network, SaeConfig(path=str(saved)), 0)
    one_line(error)


@pytest.mark.parametrize("files", [{"../trained.json": "x"}, {"x" * 5000: "x"}, {"cfg.json": 3}, ["cfg.json"], None, 3])
def test_a_record_of_files_that_are_none_is_not_whole(saved, files):
    (saved / "trained.json").write_text(json.dumps({"files": files}))
    assert not is_whole(saved)


def test_a_release_that_cannot_be_had(network, monkeypatch):
    with pytest.raises(ModelError, match=r"sae\.release=no-such-release sae\.id=x") as error:
        obtain(network, SaeConfig(release="no-such-release", id="x"), 0)
    one_line(error)


def test_a_release_goes_through_saelens(network, saved, monkeypatch):
    from sae_lens.saes.sae import SAE

    whole = SAE.load_from_disk(saved)
    monkeypatch.setattr(SAE, "from_pretrained", lambda release, sae_id, device: {("r", "i"): whole}[release, sae_id])
    found = obtain(network, SaeConfig(release="r", id="i"), 0)
    assert found.source == "r/i"
    assert found.identity.startswith("sae:")


def loaded(shape, weights):
    """The toy of another shape, with other weights processing."""
    cfg = ModelConfig(name="toy", source=ModelSource.toy, shape=shape, weights=Weights(weights))
    return build_network(load_model(cfg, device="cpu", dtype="float32"))


def made_for(saved, component, **processing):
    """The autoencoder as if it came from elsewhere."""
    altered(saved, model_from_pretrained_kwargs=processing, hook_name=f"blocks.1.{component}", tiny_ablation=None)
    return SaeConfig(path=str(saved), other_model=True)


CENTRED = {"center_writing_weights": True, "fold_ln": True}


def test_an_autoencoder_of_processed_weights_is_used_on_weights_processed_so_and_no_others(saved):
    raw, folded = loaded("gpt2", "raw"), loaded("gpt2", "folded")
    cfg = made_for(saved, "hook_resid_post", **CENTRED)
    assert obtain(folded, cfg, 0).n_features == 24
    with pytest.raises(ModelError, match=r"with center_writing_weights, fold_ln, .* set model\.weights=folded"):
        obtain(raw, cfg, 0)
    cfg = made_for(saved, "hook_resid_post", fold_ln=True, center_writing_weights=False, dtype="float32")
    assert obtain(raw, cfg, 0).n_features == 24
    with pytest.raises(ModelError, match=r"with fold_ln, .* set model\.weights=raw"):
        obtain(folded, cfg, 0)
    with pytest.raises(ModelError, match=r"weights as they were trained, .* set model\.weights=raw"):
        obtain(folded, made_for(saved, "hook_resid_post"), 0)
    with pytest.raises(ModelError, match=r"processed with shrink .* that was trained without"):
        obtain(raw, made_for(saved, "hook_resid_post", shrink=True), 0)


def test_where_norms_do_not_centre_processing_changes_no_stream(saved):
    for weights in ("raw", "folded"):
        assert obtain(loaded("llama", weights), made_for(saved, "hook_resid_post", **CENTRED), 0).n_features == 24


def test_of_heads_value_biases_matter_and_rotated_matrices_are_not_known(saved):
    raw, folded = loaded("gpt2", "raw"), loaded("gpt2", "folded")
    cfg = made_for(saved, "attn.hook_z", fold_value_biases=True)
    assert obtain(folded, cfg, 0).n_features == 24
    with pytest.raises(ModelError, match=r"set model\.weights=folded"):
        obtain(raw, cfg, 0)
    assert obtain(raw, made_for(saved, "attn.hook_z", **CENTRED), 0).n_features == 24
    with pytest.raises(ModelError, match="processed with refactor_factored_attn_matrices"):
        obtain(folded, made_for(saved, "attn.hook_z", refactor_factored_attn_matrices=True), 0)


def test_folded_weights_give_the_activations_that_centring_gives():
    """What the autoencoder reads: the stream without its mean, as TransformerLens' center_writing_weights makes it."""
    raw, folded = loaded("gpt2", "raw"), loaded("gpt2", "folded")
    ids = torch.arange(1, 9)[None]
    for component in ("resid_pre", "resid_post", "attn_out", "mlp_out"):
        seen = []
        for network in (raw, folded):
            with network.hook_point(component, 1).on_read(lambda x, seen=seen: seen.append(x.clone())):
                network.forward(ids)
        assert torch.allclose(seen[1], seen[0] - seen[0].mean(-1, keepdim=True), atol=1e-5)
        assert not torch.allclose(seen[1], seen[0], atol=1e-4)
