"""`model=induction`, `induction_pair` and `planted`: models whose circuit is known, made in seconds, once.

The tool is tested on them: ablation must find what `truth` says. `induction` and `induction_pair` are trained: see `induction`.
`planted` is the trained model with one head per layer inside a larger one: four heads per layer and 32 more dimensions. The six
further heads read everything and write vectors of ordinary size, but only into those dimensions, which nothing on the way to
the logits reads. So its logits are those of the small model to the last bit, and the effect of a decoy is 0, not nearly 0.

A model that did not learn what `truth` promises is refused.
"""

import hashlib
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiny_ablation.errors import ConfigError, ModelError
from tiny_ablation.models.labels import head_label
from tiny_ablation.models.sources import induction
from tiny_ablation.models.sources.convert import quiet_transformers
from tiny_ablation.models.sources.files import WEIGHTS, ModelFiles, checksum
from tiny_ablation.models.sources.induction import D_HEAD, D_MODEL
from tiny_ablation.models.sources.progress import spinner
from tiny_ablation.models.sources.store import converted, place
from tiny_ablation.models.sources.truth import Head, Truth
from tiny_ablation.models.sources.word_tokenizers import letter_tokenizer

if TYPE_CHECKING:
    from tiny_ablation.config.schema import ModelConfig

N_HEADS, D_UNREAD = 4, 32
CIRCUIT: tuple[Head, ...] = ((0, 2), (1, 1))  # where the trained heads are planted
VERSION = "v1"  # raise it when the same training gives another planted model

_DECOYS = tuple((layer, head) for layer in (0, 1) for head in range(N_HEADS) if (layer, head) not in CIRCUIT)
TRUTHS = {
    "induction": Truth(needed=((0, 0), (1, 0))),
    "induction_pair": Truth(pairs=(((1, 0), (1, 1)),)),
    "planted": Truth(needed=CIRCUIT, dead=_DECOYS),
}


def truth(cfg: "ModelConfig") -> Truth:
    """The circuit of the model of `cfg`. Raises ConfigError if `model.shape` is none of these models."""
    if cfg.shape not in TRUTHS:
        choices = ", ".join(TRUTHS)
        raise ConfigError(f"model.shape={cfg.shape} is no model with a known circuit; choose one of {choices}.")
    return TRUTHS[cfg.shape]


def weights_id(cfg: "ModelConfig") -> str | None:
    """Shape, seed and the hash of the weights; None while they are not made, for machines round differently."""
    weights = place(*_key(cfg)) / WEIGHTS
    return f"planted/{cfg.shape}/{cfg.seed}:{checksum(weights)}" if weights.is_file() else None


def prepare(cfg: "ModelConfig") -> ModelFiles:
    """Train or build the model unless the cache has it, whole.

    Raises:
        ModelError: `model.seed` gives a model without the circuit.
    """
    directory = converted(*_key(cfg), lambda target: _write(cfg, target))
    identity = weights_id(cfg)
    if identity is None:
        raise ModelError(f"{directory} was deleted while it was read; run again.")
    return ModelFiles(directory, identity, {"shape": cfg.shape, "seed": str(cfg.seed)})


def _key(cfg: "ModelConfig") -> tuple[str, str]:
    """The name of the directory, and what decides its content; another torch rounds differently."""
    truth(cfg)
    recipe = f"{cfg.shape}/{cfg.seed}/{induction.VERSION}/{VERSION}/torch-{version('torch')}"
    return cfg.shape, f"recipe:{hashlib.sha256(recipe.encode()).hexdigest()}"


def _plant(cfg: "ModelConfig") -> Any:
    """The trained model of one head a layer among decoys."""
    from safetensors.torch import load_file

    trained = load_file(prepare(replace(cfg, shape="induction")).directory / WEIGHTS)
    model = induction.blank(N_HEADS, D_MODEL + D_UNREAD)
    induction.scatter(model, induction.stream(cfg.seed, "decoys", VERSION))
    for name, large in model.named_parameters():
        if not large.requires_grad:
            continue
        large.requires_grad_(False)
        small = trained[name]
        if "embed" in name or "lm_head" in name:  # (vocabulary, d_model)
            large[:, :D_MODEL] = small
            if "lm_head" in name:
                large[:, D_MODEL:] = 0
            continue
        layer = int(name.split(".")[2])
        head = next(head for at, head in CIRCUIT if at == layer)
        rows = slice(head * D_HEAD, (head + 1) * D_HEAD)
        if "o_proj" in name:  # (d_model, n_heads * D_HEAD): only the planted head writes where it is read
            large[:D_MODEL] = 0
            large[:D_MODEL, rows] = small
        else:  # queries, keys or values, (n_heads * D_HEAD, d_model): the planted head reads as the small one does
            large[rows, :D_MODEL] = small
            large[rows, D_MODEL:] = 0
    return model


def _write(cfg: "ModelConfig", directory: Path) -> dict[str, str]:
    """Keep a model that has its circuit, as a Hugging Face directory; returns its measured accuracies."""
    if cfg.shape == "planted":
        model = _plant(cfg)
    else:
        with spinner(f"Training {cfg.name}, once"):
            model = induction.train(2 if cfg.shape == "induction_pair" else 1, cfg.seed)
    circuit, found = truth(cfg), {}
    lists = induction.draw_lists(induction.stream(0, "held out"), 256)
    fatal = [*((head,) for head in circuit.needed), *circuit.pairs]
    single = (*circuit.needed, *circuit.dead, *(head for pair in circuit.pairs for head in pair))
    for zeroed in ((), *((head,) for head in single), *circuit.pairs):
        accuracy = induction.accuracy(model, lists, zeroed)
        without = " without " + " and ".join(head_label(*head) for head in zeroed) if zeroed else ""
        if accuracy > 0.3 if zeroed in fatal else accuracy < 0.85:
            raise ModelError(
                f"model {cfg.name}: with model.seed={cfg.seed} it did not learn its circuit: its accuracy{without} is "
                f"{accuracy:.3f}. Use another seed."
            )
        found[f"accuracy{without}"] = f"{accuracy:.3f}"
    with quiet_transformers():
        model.save_pretrained(directory)
        letter_tokenizer().save_pretrained(directory)
    return found
