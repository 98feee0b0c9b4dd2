"""Train an autoencoder with SAELens' own trainer, on activations that are on disk.

The loop is SAELens' `fit` with two changes: checkpoints are written whole or not at all and include the loss curve, so that a
killed training continues as if nothing had happened; and nothing is sent anywhere.
"""

import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiny_ablation.config.schema import SaeArchitecture, SaeConfig
from tiny_ablation.config.seeds import derive_seed
from tiny_ablation.errors import ModelError, NumericsError, ResultsError
from tiny_ablation.models.sources.progress import notice
from tiny_ablation.sae.buffer import Buffer
from tiny_ablation.sae.trust import weights_only
from tiny_ablation.store.checksummed_json import read_sealed, write_sealed
from tiny_ablation.store.files import clean_stale, flush_files, read_json, sha256_file, write_json

if TYPE_CHECKING:
    from torch import Tensor

WARM_UP, DECAY = 0.05, 0.3  # parts of the steps in which the learning rate rises, and falls to zero
DEAD_WINDOW = 100  # steps without firing after which a feature counts as dead while training
SCALE_SAMPLE = 16_384  # activations that the mean and the mean norm are taken over
_LOSSES, _FILES = "curve.json", "files.json"
# Gradients of thresholds reach over `bandwidth`, which must be wide beside activations of this size; SAELens' own defaults
# are for smaller ones. Conerly et al. 2025, "Dictionary learning optimization techniques".
_JUMPRELU: dict[str, Any] = {
    "jumprelu_sparsity_loss_mode": "tanh",
    "jumprelu_bandwidth": 2.0,
    "jumprelu_init_threshold": 0.1,
    "jumprelu_ste_to_input": True,
    "pre_act_loss_coefficient": 3e-6,
}


def train(
    buffer: Buffer,
    cfg: SaeConfig,
    width: int,
    seed: int,
    work: Path,
    *,
    device: str,
    metadata: dict[str, Any],
    tick: Callable[[int], object],
) -> tuple[Any, list[dict[str, float]]]:
    """Train from the last checkpoint in `work` on, or from the start.

    Args:
        buffer: the activations.
        cfg: the recipe.
        width: number of features.
        seed: draws the first weights and the order of the activations.
        work: directory of the checkpoints, the last of which stays.
        device: where to train.
        metadata: what SAELens keeps beside the weights.
        tick: called with the number of steps done.

    Returns:
        The trained `TrainingSAE`, for activations that are not normalised, and its losses, step by step.

    Raises:
        NumericsError: the loss became NaN or infinite.
    """
    trainer = _trainer(buffer, cfg, width, seed, device, metadata)
    last = _last_checkpoint(work)
    curve = [] if last is None else _resume(trainer, last)
    batches = buffer.batches(cfg.batch, seed, trainer.n_training_steps)
    tick(trainer.n_training_steps)
    while trainer.n_training_steps < cfg.steps:
        output = trainer.step(next(batches))
        trainer.n_training_steps += 1
        curve.append(_point(trainer.n_training_steps, output))
        tick(trainer.n_training_steps)
        if trainer.n_training_steps % cfg.checkpoint_every == 0:
            _save(trainer, curve, work)
    trainer.sae.fold_activation_norm_scaling_factor(trainer.activation_scaler.scaling_factor)
    return trainer.sae, curve


def _trainer(buffer: Buffer, cfg: SaeConfig, width: int, seed: int, device: str, metadata: dict[str, Any]) -> Any:
    import torch
    from sae_lens.config import SAETrainerConfig
    from sae_lens.registry import get_sae_training_class
    from sae_lens.saes.sae import SAEMetadata
    from sae_lens.training.sae_trainer import SAETrainer

    sample = buffer.sample(SCALE_SAMPLE, seed)
    scale = sample.shape[1] ** 0.5 / sample.norm(dim=1).mean().item()  # SAELens' own normalisation, without its 1,000 batches
    warm = round(WARM_UP * cfg.steps)
    own: dict[str, Any] = {
        SaeArchitecture.topk: {"k": cfg.k},
        SaeArchitecture.batchtopk: {"k": cfg.k},
        SaeArchitecture.jumprelu: {"l0_coefficient": cfg.sparsity, "l0_warm_up_steps": warm, **_JUMPRELU},
        SaeArchitecture.standard: {"l1_coefficient": cfg.sparsity, "l1_warm_up_steps": warm},
    }[cfg.architecture]
    made, settings = get_sae_training_class(cfg.architecture.value)
    common: dict[str, Any] = {"d_in": sample.shape[1], "d_sae": width, "device": device}
    with torch.random.fork_rng(devices=[]):  # the first weights come from torch's global generator
        torch.manual_seed(derive_seed(seed, "sae", "weights") % 2**63)
        sae: Any = made(settings(**common, **own, normalize_activations="expected_average_only_in"))
    sae.cfg.metadata = SAEMetadata(**{**sae.cfg.metadata.to_dict(), **metadata})
    sae.b_dec.data = (sample.mean(0) * scale).to(sae.b_dec)
    _give_sinks_a_feature(sae, sample * scale, buffer.sinks() * scale)
    batch = min(cfg.batch, len(buffer.values))
    trainer = SAETrainer(
        SAETrainerConfig(
            total_training_samples=cfg.steps * batch,
            train_batch_size_samples=batch,
            lr=cfg.lr,
            lr_end=cfg.lr / 20,
            device=device,
            lr_warm_up_steps=warm,
            lr_decay_steps=round(DECAY * cfg.steps),
            dead_feature_window=DEAD_WINDOW,
            feature_sampling_window=cfg.steps + 1,
        ),
        sae,
        iter(()),  # the trainer is handed its batches one by one
    )
    trainer.activation_scaler.scaling_factor = scale
    return trainer


def _give_sinks_a_feature(sae: Any, ordinary: "Tensor", sinks: "Tensor") -> None:
    """Start the first feature as a detector of attention sinks, if there are any.

    Sinks all point the same way, so that one feature can say what they are. Begun at random, the autoencoder would learn that
    from a handful of tokens that are each hundreds of times as wrong as all others.
    """
    if not len(sinks):
        return
    centre = sae.b_dec.data
    sinks = sinks.to(centre) - centre
    direction = sinks.mean(0) / sinks.mean(0).norm()
    length = (sinks @ direction).mean()
    # Silent for everything else, and as long as the mean sink for the mean sink.
    silent_up_to = ((ordinary.to(centre) - centre) @ direction).max().clamp(min=0)
    sae.W_dec.data[0] = direction
    sae.W_enc.data[:, 0] = direction * (length + silent_up_to) / length
    sae.b_enc.data[0] = -silent_up_to


def _point(step: int, output: Any) -> dict[str, float]:
    losses = {name: float(value.detach()) for name, value in output.losses.items()}
    total = float(output.loss.detach())
    if total != total or total == float("inf"):
        raise NumericsError(f"sae: the loss became {total} at step {step}; take a smaller sae.lr")
    l0 = float((output.feature_acts > 0).sum() / len(output.feature_acts))
    return {"step": step, "loss": total, "l0": l0, **losses}


def _save(trainer: Any, curve: list[dict[str, float]], work: Path) -> None:
    """A checkpoint under its final name is whole; the one before it goes only then."""
    clean_stale(work)
    name = f"step-{trainer.n_training_steps:08d}"
    part = work / f".part-{name}"
    shutil.rmtree(part, ignore_errors=True)
    trainer.save_checkpoint(part.name, base_path=work)
    write_json(part / _LOSSES, curve)
    write_sealed(part / _FILES, {file.name: sha256_file(file) for file in sorted(part.iterdir())})
    flush_files(part)
    shutil.rmtree(work / name, ignore_errors=True)
    os.replace(part, work / name)
    for old in work.glob("step-*"):
        if old.name != name:
            shutil.rmtree(old, ignore_errors=True)


def _last_checkpoint(work: Path) -> Path | None:
    """The last one, if it is as it was written."""
    last = max(work.glob("step-*"), default=None)
    if last is None:
        return None
    with contextlib.suppress(ResultsError):
        if all(sha256_file(last / name) == sha for name, sha in read_sealed(last / _FILES).items()):
            return last
    notice(f"{last} is damaged; training begins anew.")
    shutil.rmtree(last, ignore_errors=True)
    return None


def _resume(trainer: Any, checkpoint: Path) -> list[dict[str, float]]:
    """Go on from a checkpoint; returns the losses up to it. Raises ModelError if it is damaged, or no checkpoint of ours."""
    try:
        with weights_only():
            trainer.sae.load_weights_from_checkpoint(checkpoint)
            trainer.load_trainer_state(checkpoint)
    except Exception as error:  # a damaged or foreign file raises anything in the libraries that read it
        raise ModelError(
            f"sae: the checkpoint {checkpoint} is damaged ({type(error).__name__}); delete {checkpoint.parent} to train from "
            "the start"
        ) from error
    return read_json(checkpoint / _LOSSES)
