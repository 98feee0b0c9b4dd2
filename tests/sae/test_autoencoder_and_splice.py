"""What an autoencoder does to a run, against hand-written computations on the plain model."""

import pytest
import torch

from tiny_ablation.engine.edits import Edit, Intervention
from tiny_ablation.engine.executor import Executor
from tiny_ablation.engine.forward import Passes
from tiny_ablation.engine.prompts import Prompt
from tiny_ablation.errors import ModelError
from tiny_ablation.metrics.registry import metric
from tiny_ablation.sae.site import Site
from tiny_ablation.sae.splice import AddFeature, ScaleFeature, Splice

ARCHITECTURES = [
    ("standard", {}),
    ("jumprelu", {}),
    ("gated", {}),
    ("topk", {"k": 4}),
    ("topk", {"k": 4, "rescale_acts_by_decoder_norm": True}),
    ("standard", {"normalize_activations": "layer_norm"}),
    ("standard", {"apply_b_dec_to_input": False}),
]
IDS = (40, 50, 60, 70, 80)


@pytest.mark.parametrize(("architecture", "keys"), ARCHITECTURES)
def test_what_a_feature_writes_is_what_the_reconstruction_loses_without_it(make_autoencoder, architecture, keys):
    found = make_autoencoder(8, architecture=architecture, **keys)
    x = torch.randn(30, 8, generator=torch.Generator().manual_seed(3))
    encoded = found.encode(x)
    assert torch.equal(encoded.features, found.sae.encode(x))
    feature = int((encoded.features > 0).sum(0).argmax())
    without = encoded.features.clone()
    without[:, feature] = 0
    found.sae.encode(x)
    change = encoded.output - found.sae.decode(without)
    assert change.abs().max() > 0.1
    torch.testing.assert_close(found.written(x, feature), change, atol=1e-4, rtol=1e-4)


def test_it_computes_in_the_precision_of_the_run(make_autoencoder):
    found = make_autoencoder(8)
    x = torch.randn(5, 8, generator=torch.Generator().manual_seed(3))
    assert found.encode(x.double()).output.dtype == torch.float64
    torch.testing.assert_close(found.encode(x.double()).output.float(), found.encode(x).output)
    assert found.sae.W_dec.dtype == torch.float32


def test_an_output_that_is_no_sum_is_refused(make_autoencoder, monkeypatch):
    from sae_lens.saes.standard_sae import StandardSAE

    plain = StandardSAE.decode
    monkeypatch.setattr(StandardSAE, "decode", lambda self, features: plain(self, features) ** 2)
    with pytest.raises(ModelError, match="no sum over features"):
        make_autoencoder(8, architecture="standard")


def plain_logits(network, site, change, positions):
    """The last logits of the plain model with a hand-written hook."""
    ids = torch.tensor([IDS])
    block = network.blocks[site.layer]

    def hook(_module, _args, output):
        x = (output[0] if isinstance(output, tuple) else output).clone()
        x[0, positions] = change(x[0, positions])
        return (x, *output[1:]) if isinstance(output, tuple) else x

    handle = block.register_forward_hook(hook)
    try:
        with torch.no_grad():
            return network.hf(input_ids=ids).logits[0, -1]
    finally:
        handle.remove()


def engine_logits(network, replacement, site, positions):
    """The same through the engine."""
    prompts = [Prompt(IDS, (3,), (4,), {}, "p")]
    edit = Edit(site.component, site.layer, None, replacement, positions)
    executor = Executor(network, prompts, [Intervention((edit,))], [metric("logit_diff")])
    seen = []
    inner = Passes.edited
    result = None

    def record(self, batch, cache, start, writers, runs, only=None):
        out = inner(self, batch, cache, start, writers, runs, only)
        if (site.component, site.layer) in writers:
            seen.append(out[0, 0].clone())
        return out

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Passes, "edited", record)
        result = executor.run(0)
    return seen[-1], result


@pytest.mark.parametrize("shape", ["llama", "gpt2", "neox"])
@pytest.mark.parametrize("positions", ["after_first", "last"])
def test_switching_off_equals_a_hand_written_hook(toy_networks, make_autoencoder, shape, positions):
    network, site = toy_networks[shape], Site("resid_post", 0)
    found = make_autoencoder(32, site=site)
    sae, feature = found.sae, 0
    at = [1, 2, 3, 4] if positions == "after_first" else [4]
    clean = network.hf(input_ids=torch.tensor([IDS]), output_hidden_states=True).hidden_states[1][0, at]
    feature = int(sae.encode(clean)[-1].argmax())

    def off(x):
        pre = (x - sae.b_dec) @ sae.W_enc[:, feature] + sae.b_enc[feature]  # JumpReLU by hand
        act = pre * (pre > sae.threshold[feature])
        return x - act[:, None] * sae.W_dec[feature]

    got, result = engine_logits(network, ScaleFeature(found, feature=feature, factor=0.0), site, positions)
    expected = plain_logits(network, site, off, at)
    torch.testing.assert_close(got, expected, atol=5e-5, rtol=0)
    with torch.no_grad():
        untouched = network.hf(input_ids=torch.tensor([IDS])).logits[0, -1]
    assert (got - untouched).abs().max() > 1e-2
    base = (untouched[3] - untouched[4]).item()
    assert result.baseline["logit_diff"].item() == pytest.approx(base, abs=5e-5)


@pytest.mark.parametrize("factor", [0.0, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("keep", [True, False])
def test_scaling_with_and_without_the_error(toy_networks, make_autoencoder, factor, keep):
    network, site = toy_networks["llama"], Site("resid_post", 0)
    found = make_autoencoder(32, site=site, architecture="topk", k=5)

    def change(x):
        features = found.sae.encode(x)
        scaled = features.clone()
        scaled[:, 7] *= factor
        output = found.sae.decode(scaled)
        return output + (x - found.sae.decode(features)) if keep else output

    replacement = ScaleFeature(found, keep, feature=7, factor=factor)
    got, _ = engine_logits(network, replacement, site, "after_first")
    torch.testing.assert_close(got, plain_logits(network, site, change, [1, 2, 3, 4]), atol=5e-5, rtol=0)


def test_adding_a_direction(toy_networks, make_autoencoder):
    network, site = toy_networks["llama"], Site("resid_post", 1)
    found = make_autoencoder(32, site=site)
    got, _ = engine_logits(network, AddFeature(found, feature=2, amount=1.5), site, "after_first")
    expected = plain_logits(network, site, lambda x: x + 1.5 * found.sae.W_dec[2], [1, 2, 3, 4])
    torch.testing.assert_close(got, expected, atol=5e-5, rtol=0)


@pytest.mark.parametrize("component", ["resid_pre", "resid_post", "attn_out", "mlp_out", "z"])
def test_spliced_in_with_its_error_nothing_changes(toy_networks, make_autoencoder, component):
    network, site = toy_networks["llama"], Site(component, 1)
    found = make_autoencoder(site.width(network.shape), site=site)
    got, _ = engine_logits(network, Splice(found), site, "after_first")
    with torch.no_grad():
        clean = network.hf(input_ids=torch.tensor([IDS])).logits[0, -1]
    torch.testing.assert_close(got, clean, atol=5e-5, rtol=0)
    without, _ = engine_logits(network, Splice(found, keep_error=False), site, "after_first")
    assert (without - clean).abs().max() > 1e-2


def test_hooks_are_gone_and_the_clean_baseline_is_bit_equal(toy_networks, make_autoencoder):
    network, site = toy_networks["llama"], Site("resid_post", 0)
    with torch.no_grad():
        before = network.hf(input_ids=torch.tensor([IDS])).logits
    hooks = lambda: [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in network.hf.modules()]  # noqa: E731
    own = hooks()  # the library's own
    found = make_autoencoder(32, site=site)
    for replacement in (Splice(found, False), ScaleFeature(found, False, feature=1)):
        engine_logits(network, replacement, site, "after_first")
    with torch.no_grad():
        assert torch.equal(network.hf(input_ids=torch.tensor([IDS])).logits, before)
    assert hooks() == own
