"""Whether an autoencoder was made for the weights that a run ablates: as trained, or processed as TransformerLens does.

Processing leaves a model's predictions as they are and changes some of its activations. Centring what writes to the residual
stream changes the streams and what is added to them; folding value biases changes `z`; the rest changes neither.
`model.weights=folded` does both, in float64, so an autoencoder that was made for weights that were processed so is used with
it, and one that was made for weights as trained with `model.weights=raw`.
"""

from typing import TYPE_CHECKING, Any

from tiny_ablation.errors import ModelError

if TYPE_CHECKING:
    from tiny_ablation.models.network import Network
    from tiny_ablation.sae.autoencoder import Autoencoder

_CENTRED, _BIASES = "center_writing_weights", "fold_value_biases"
# Keys of TransformerLens' loaders that change no activation that an autoencoder is put at; one more does not change streams.
_HARMLESS = {"fold_ln", "center_unembed", "trust_remote_code", _CENTRED, _BIASES}
_ROTATED = "refactor_factored_attn_matrices"


def check_processing(found: "Autoencoder", network: "Network") -> None:
    """Refuse an autoencoder whose activations are not those of the weights here.

    Raises:
        ModelError: says which `model.weights` it was made for, or which processing is not known here.
    """
    own: Any = found.sae.cfg.metadata
    here = network.model.origin.get("weights", "raw")
    asked = {key for key, on in (own.model_from_pretrained_kwargs or {}).items() if on is True}
    of_heads = found.site.component == "z"
    if unknown := sorted(asked - _HARMLESS - (set() if of_heads else {_ROTATED})):
        raise ModelError(
            f"sae: {found.source} was made for weights that were processed with {', '.join(unknown)} "
            "(model_from_pretrained_kwargs), whose activations are others than those of the weights here; take an autoencoder "
            "that was trained without"
        )
    if not of_heads and not _centres(network):
        return  # where norms do not centre, neither TransformerLens nor folding centres what they read
    trained_here = (own.tiny_ablation or {}).get("processing")
    wanted = trained_here or ("folded" if (_BIASES if of_heads else _CENTRED) in asked else "raw")
    if wanted != here:
        said = f"processed with {', '.join(sorted(asked))}" if asked else "as they were trained"
        raise ModelError(
            f"sae: {found.source} was made for weights {wanted if trained_here else said}, whose activations at "
            f"{found.site.hook_name} are those of model.weights={wanted}, and this is model.weights={here}; set "
            f"model.weights={wanted}"
        )


def _centres(network: "Network") -> bool:
    return "RMS" not in type(network.final_norm).__name__
