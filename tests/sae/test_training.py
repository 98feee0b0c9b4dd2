"""Training recovers directions that were planted, and a killed training ends as if nothing had happened."""

import numpy as np
import pytest
import torch

from tests.sae.known import recovered
from tiny_ablation.config.schema import SaeArchitecture, SaeConfig
from tiny_ablation.errors import NumericsError
from tiny_ablation.sae import training
from tiny_ablation.sae.buffer import with_sinks

KNOWN = {"batch": 256, "steps": 1000, "checkpoint_every": 10_000, "lr": 3e-3}
RECIPES = {"batchtopk": {"k": 2}, "topk": {"k": 2}, "jumprelu": {"sparsity": 1.5}, "standard": {"sparsity": 1.5}}


def run(buffer, cfg, work, tick=lambda _: None, seed=0, width=20):
    work.mkdir(parents=True, exist_ok=True)
    return training.train(buffer, cfg, width, seed, work, device="cpu", metadata={"model_name": "toy"}, tick=tick)


@pytest.fixture(scope="session")
def buffer(planted):
    values = planted.activations.numpy()
    return with_sinks(values[np.linalg.norm(values, axis=1) > 0])


@pytest.mark.parametrize("architecture", list(RECIPES))
def test_planted_directions_are_recovered(buffer, planted, tmp_path, architecture):
    cfg = SaeConfig(architecture=SaeArchitecture(architecture), **{**KNOWN, **RECIPES[architecture]})
    sae, curve = run(buffer, cfg, tmp_path, width=24)
    cosines = recovered(sae.W_dec.detach(), planted.directions)
    assert cosines.mean() >= 0.9, cosines
    assert curve[-1]["loss"] < 0.5 * curve[0]["loss"]
    assert [point["step"] for point in curve] == list(range(1, 1001))


SHORT = SaeConfig(k=2, batch=64, steps=40, checkpoint_every=10, lr=1e-3)


def test_a_killed_training_ends_like_an_undisturbed_one(buffer, tmp_path):
    whole, curve = run(buffer, SHORT, tmp_path / "whole")
    kills = iter((7, 23, 30, 31))  # before the first checkpoint, between two, right behind one
    while True:
        at = next(kills, 99)

        def kill(step, at=at):
            if step == at:
                raise KeyboardInterrupt

        try:
            again, resumed = run(buffer, SHORT, tmp_path / "killed", kill)
            break
        except KeyboardInterrupt:
            continue
    np.testing.assert_allclose([p["loss"] for p in resumed], [p["loss"] for p in curve], rtol=1e-6)
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], tensor, rtol=1e-6, atol=1e-7)


def test_a_kill_while_a_checkpoint_is_written_costs_none(buffer, tmp_path, monkeypatch):
    def first(step):
        if step == 15:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(buffer, SHORT, tmp_path, first)
    kept = training._last_checkpoint(tmp_path)

    def fail(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(training.os, "replace", fail)
        with pytest.raises(KeyboardInterrupt):
            run(buffer, SHORT, tmp_path)
    assert training._last_checkpoint(tmp_path) == kept
    _, curve = run(buffer, SHORT, tmp_path)
    assert len(curve) == 40


@pytest.mark.parametrize("architecture", list(RECIPES))
def test_attention_sinks_are_said_by_one_feature_from_the_start_on(buffer, tmp_path, architecture):
    draws = np.random.default_rng(0)
    direction = draws.normal(size=buffer.values.shape[1])
    lengths = 60 * np.linalg.norm(buffer.values, axis=1).mean() * draws.uniform(0.97, 1.03, size=20)
    sinks = (lengths[:, None] * direction / np.linalg.norm(direction)).astype(np.float32)
    both = with_sinks(np.concatenate([buffer.values, sinks]))
    assert both.is_sink.sum() == 20
    cfg = SaeConfig(architecture=SaeArchitecture(architecture), batch=256, steps=1, lr=1e-6, **RECIPES[architecture])
    sae, _ = run(both, cfg, tmp_path, width=24)
    with torch.no_grad():
        found = sae.encode(torch.from_numpy(both.values))[:, 0] > 1  # sinks are at 130; the nearest of the others began at 0
        error = sae(torch.from_numpy(sinks)) - torch.from_numpy(sinks)
    assert torch.equal(found, torch.from_numpy(both.is_sink))
    assert error.norm() < 0.1 * np.linalg.norm(sinks)


def test_only_the_last_checkpoint_is_kept(buffer, tmp_path):
    run(buffer, SHORT, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000040"]


def test_a_loss_that_is_no_number_stops_the_training(buffer, tmp_path):
    bad = with_sinks(buffer.values * np.float32("nan"))
    with pytest.raises(NumericsError, match=r"sae\.lr"):
        run(bad, SHORT, tmp_path)


def test_no_global_random_state_is_touched(buffer, tmp_path):
    before = torch.random.get_rng_state()
    run(buffer, SHORT, tmp_path)
    assert torch.equal(torch.random.get_rng_state(), before)
