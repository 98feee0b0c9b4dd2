"""Faults that this tool once had, put back one by one: verification tells each, and where it is."""

import contextlib
import json
import re
from dataclasses import replace

import pytest
import torch

from tests.families import D_HEAD, N_HEADS, saved
from tiny_ablation import pipeline
from tiny_ablation.cli import main
from tiny_ablation.models import loader
from tiny_ablation.models.fast import TreeLimits
from tiny_ablation.models.hookpoints import HookPoint
from tiny_ablation.models.network import Network

COMMON = [
    "tracking=off",
    "dataset.n_examples=12",
    "device.threads=1",
    "stats.n_boot=200",
    "stats.n_perm=200",
    "hydra.run.dir=run",
]
EVERYTHING = ("verify.n_sites=null", "verify.n_examples=null")


@pytest.fixture
def verify(tmp_path, monkeypatch):
    """Runs `tiny-ablate ARGS` on a tiny model of a family; returns the exit code and what verification found."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["tiny-ablate"])

    def go(family, *args, **how):
        loader.forget()
        model = saved(family, tmp_path / family, **how)
        with contextlib.suppress(FileNotFoundError):
            (tmp_path / "run/metrics/verify.json").unlink()
        code = main(["model=local", f"model.path={model}", *COMMON, *args, "resume=false"])
        loader.forget()
        return code, json.loads((tmp_path / "run/metrics/verify.json").read_text())

    return go


def rounded_buffers(keep_dtype):
    """Everything is put into the run's precision after loading, what a model computes for itself too."""
    real = loader._settle

    def settle(hf, cfg, device, dtype):
        real(hf, cfg, device, dtype)
        for buffer in hf.buffers():
            rounded = buffer.bfloat16() if buffer.is_floating_point() else buffer
            buffer.data = rounded.to(buffer.dtype) if keep_dtype else rounded

    return settle


@pytest.mark.parametrize("keep_dtype", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_rotary_frequencies_are_rounded(verify, monkeypatch, keep_dtype):
    monkeypatch.setattr(loader, "_settle", rounded_buffers(keep_dtype))
    code, found = verify("llama", "ablation=heads_zero", "device.dtype=bfloat16")
    assert (code, found["verdict"]) == (0, "drift")
    assert "model.rotary_emb.inv_freq" in found["faults"][0]


@pytest.mark.slow
def test_frequencies_that_are_kept_are_no_fault(verify):
    code, found = verify("llama", "ablation=heads_zero", "device.dtype=bfloat16")
    assert code == 0
    assert not [fault for fault in found["faults"] if "in the run's model" in fault]


@pytest.mark.slow
def test_weights_that_are_not_those_of_the_files(verify, monkeypatch):
    real = loader._settle

    def settle(hf, *how):
        real(hf, *how)
        hf.model.layers[1].self_attn.k_proj.weight.data[3] *= 1.01

    monkeypatch.setattr(loader, "_settle", settle)
    code, found = verify("llama", "ablation=heads_zero")
    assert (code, found["verdict"]) == (1, "bug")
    assert "in the run's model model.layers.1.self_attn.k_proj.weight is not what transformers loads" in found["faults"][0]
    assert re.search(r"L1H[01]\b", found["first_difference"])  # the two that share these keys


LONG = ("ablation=heads_zero", "dataset=facts")


@pytest.mark.slow
def test_prompts_of_lengths_that_turn_by_other_angles_share_a_pass(verify, monkeypatch):
    code, found = verify("phi3", *LONG)
    assert (code, found["verdict"]) == (0, "ok")
    real = Network.paths
    monkeypatch.setattr(Network, "paths", lambda self, longest: replace(real(self, longest), trees=TreeLimits()))
    code, found = verify("phi3", *LONG)
    assert (code, found["verdict"]) == (1, "bug")


def put_back(monkeypatch, components, make):
    """Hook points as they were, from when the run is prepared: `make(network, layer, which)` gives them.

    The proof when a model is loaded would refuse them; what it does not see is what verification is for.
    """
    right, executors = Network.hook_point, pipeline.executors

    def hook_point(self, name, layer):
        return make(self, layer, name) if name in components else right(self, name, layer)

    def with_the_fault(prepared):
        monkeypatch.setattr(Network, "hook_point", hook_point)
        return executors(prepared)

    monkeypatch.setattr(pipeline, "executors", with_the_fault)


def by_part(self, layer, which):
    """Queries of all heads, then keys, then values, though the model has the three of each head together."""
    joint = self.blocks[layer].self_attention.query_key_value
    units = torch.arange(3 * N_HEADS * D_HEAD).view(3, N_HEADS, D_HEAD)["qkv".index(which)]
    return HookPoint(f"blocks.{layer}.{which}", joint, "out", units)


@pytest.mark.parametrize("component", ["q", *(pytest.param(c, marks=pytest.mark.slow) for c in "kv")])
def test_a_fused_layout_is_taken_for_another(verify, monkeypatch, component):
    put_back(monkeypatch, "qkv", by_part)
    code, found = verify("falcon_rw", "ablation=heads_zero", f"ablation.component={component}")
    assert (code, found["verdict"]) == (1, "bug")
    assert re.match(r"the effect of L\dH\d scale", found["faults"][0])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("asked", "verdict", "said"), [("auto", "bug", "[gMASK] <sop>"), ("false", "ok", None), ("true", "bug", "[gMASK]")]
)
def test_what_a_tokenizer_puts_before_a_text_is_dropped(verify, monkeypatch, asked, verdict, said):
    monkeypatch.setattr(loader, "opening", lambda *_: ())
    found = verify("llama", "ablation=heads_zero", f"model.prepend_bos={asked}", opening="[gMASK] <sop>")[1]
    assert found["verdict"] == verdict
    assert said is None or said in found["faults"][0]


@pytest.mark.slow
def test_what_a_tokenizer_puts_before_a_text_is_kept(verify):
    for asked in ("auto", "false", "true"):
        code, found = verify("llama", "ablation=heads_zero", f"model.prepend_bos={asked}", opening="[gMASK] <sop>")
        assert (code, found["verdict"], found["faults"]) == (0, "ok", [])


def before_norms(self, layer, which):
    """What the module gives, though a norm or a factor stands between it and the residual stream."""
    block = self.blocks[layer]
    module = block.self_attn if which == "attn_out" else block.mlp
    return HookPoint(f"blocks.{layer}.{which}", module, "out")


@pytest.mark.parametrize("family", ["gemma3", *(pytest.param(f, marks=pytest.mark.slow) for f in ("olmo2", "granite"))])
def test_what_is_added_is_read_before_norms_and_factors(verify, monkeypatch, family):
    put_back(monkeypatch, ("attn_out", "mlp_out"), before_norms)
    code, found = verify(family, "ablation=mlp_mean")
    assert (code, found["verdict"]) == (1, "bug")
    assert "mlp" in found["first_difference"].lower() or "attention output" in found["first_difference"]


@pytest.mark.slow
def test_experts_are_verified_in_double_precision(verify):
    code, found = verify("mixtral", "ablation=heads_zero", *EVERYTHING)
    assert (code, found["verdict"]) == (0, "ok")
    assert found["device_verify"].startswith("cpu float64")


@pytest.mark.slow
def test_a_router_near_a_tie_is_told_as_that(verify, monkeypatch):
    """The run chooses another expert wherever two are within rounding: large differences, and no bug."""
    from transformers.models.mixtral.modeling_mixtral import MixtralTopKRouter

    from tiny_ablation.verify import slice as module

    def tied(hf):
        for router in (m for m in hf.modules() if isinstance(m, MixtralTopKRouter)):
            router.weight.data[1] = router.weight.data[0]
        return hf

    def other(self, hidden):
        logits, scores, chosen = real(self, hidden)
        return logits, scores, torch.where(chosen == 0, 1, torch.where(chosen == 1, 0, chosen))

    real = MixtralTopKRouter.forward
    settle, plain = loader._settle, loader.load_plain
    monkeypatch.setattr(loader, "_settle", lambda hf, *how: settle(tied(hf), *how))
    monkeypatch.setattr("tiny_ablation.verify.plain.load_plain", lambda *a, **k: tied(plain(*a, **k)))
    monkeypatch.setattr(module, "_cells_again", _with(module._cells_again, MixtralTopKRouter, other))
    code, found = verify("mixtral", "ablation=heads_zero", *EVERYTHING)
    assert (code, found["verdict"]) == (0, "ok")
    assert found["router_ties"] > 0


def _with(cells_again, router, forward):
    """The reference with routers that choose otherwise."""

    def run(*args):
        real, router.forward = router.forward, forward
        try:
            return cells_again(*args)
        finally:
            router.forward = real

    return run
