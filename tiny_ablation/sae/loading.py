"""An autoencoder for a run: trained here, read from a directory, or fetched by SAELens; refused where it does not belong."""

import contextlib
import hashlib
import io
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiny_ablation.config.schema import SaeConfig
from tiny_ablation.errors import ConfigError, ModelError, TinyAblateError, first_line, is_out_of_memory
from tiny_ablation.sae.autoencoder import Autoencoder
from tiny_ablation.sae.site import Site, site_of
from tiny_ablation.sae.trained import RECORD, recipe, trained
from tiny_ablation.sae.trust import weights_only
from tiny_ablation.store.checksummed_json import read_sealed
from tiny_ablation.store.files import sha256_file

if TYPE_CHECKING:
    from tiny_ablation.models.network import Network

WEIGHTS = "sae_weights.safetensors"
_CENTRED, _BIASES = "center_writing_weights", "fold_value_biases"
# Keys of TransformerLens' loaders that change no activation that an autoencoder is put at; one more does not change streams.
_HARMLESS = {"fold_ln", "center_unembed", "trust_remote_code", _CENTRED, _BIASES}
_ROTATED = "refactor_factored_attn_matrices"


def obtain(network: "Network", cfg: SaeConfig, seed: int, *, anew: bool = False) -> Autoencoder:
    """The autoencoder that `cfg` asks for, at its place in `network`.

    Raises:
        ModelError: there is none, it cannot be read, or it belongs to another model.
        ConfigError: it belongs at another place than was asked for.
    """
    if cfg.path is not None:
        found = read(Path(cfg.path).expanduser(), network.device)
    elif cfg.release is not None:
        found = _fetched(cfg, network.device)
    else:
        return read(trained(recipe(network, cfg, seed), anew=anew), network.device)
    _check_fits(found, network, cfg)
    return found


def inputs(cfg: SaeConfig) -> str:
    """What identifies the autoencoder in `sae.path`, without importing torch; empty if there is no path.

    Raises:
        ModelError: there is none in `sae.path`.
    """
    if cfg.path is None:
        return ""
    weights = Path(cfg.path).expanduser() / WEIGHTS
    if not weights.is_file():
        raise ModelError(
            f"sae.path={cfg.path}: there is no {WEIGHTS}; give a directory that SAELens saved, such as sae/ of a run "
            "that trained one"
        )
    return f"sae:{sha256_file(weights)}"


def read(directory: Path, device: str) -> Autoencoder:
    """The autoencoder in a directory of SAELens' format. Raises ModelError if it cannot be read."""
    from sae_lens.saes.sae import SAE

    identity = inputs(SaeConfig(path=str(directory)))
    try:
        with _quiet():
            sae = SAE.load_from_disk(directory, device=device, dtype="float32")
        site, facts = _site(sae), {}
        if (directory / RECORD).is_file():  # trained here: its numbers must be as they were written
            facts = read_sealed(directory / RECORD, "Take another copy of the autoencoder.", required=False)
            for name, sha in facts["files"].items():
                if name.endswith(".safetensors") and (directory / name).is_file() and sha256_file(directory / name) != sha:
                    raise ModelError(f"{directory / name} has been altered. Take another copy of the autoencoder.")
        return Autoencoder(sae, site, str(directory), identity, facts)
    except TinyAblateError:
        raise
    except Exception as error:  # damaged or foreign files raise anything
        if is_out_of_memory(error):
            raise
        raise ModelError(f"sae.path={directory} cannot be read by SAELens: {first_line(error)}") from error


def _fetched(cfg: SaeConfig, device: str) -> Autoencoder:
    from sae_lens.saes.sae import SAE

    source = f"{cfg.release}/{cfg.id}"
    try:
        with _quiet(), weights_only():
            sae: Any = SAE.from_pretrained(str(cfg.release), str(cfg.id), device=device)
    except Exception as error:  # whatever the hub, the network or the format raises
        raise ModelError(
            f"sae.release={cfg.release} sae.id={cfg.id} cannot be had from SAELens: {first_line(error)}"
        ) from error
    digest = hashlib.sha256()
    for name, tensor in sorted(sae.state_dict().items()):
        digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    return Autoencoder(sae, _site(sae), source, f"sae:{digest.hexdigest()}")


def _site(sae: Any) -> Site:
    hook = sae.cfg.metadata.hook_name
    if not hook:
        raise ModelError("sae: its cfg.json does not say at which hook it belongs (metadata.hook_name)")
    return site_of(hook)


def _check_fits(found: Autoencoder, network: "Network", cfg: SaeConfig) -> None:
    site, shape, own = found.site, network.shape, found.sae.cfg
    if site.layer >= shape.n_layers or own.d_in != site.width(shape):
        raise ModelError(
            f"sae: {found.source} is for {own.d_in} dimensions at {site.hook_name}, but {network.model.name} has "
            f"{shape.n_layers} layers of {site.width(shape)}; take an autoencoder of this model"
        )
    asked = replace(site, component=cfg.component or site.component, layer=site.layer if cfg.layer is None else cfg.layer)
    if asked != site:
        raise ConfigError(
            f"sae: {found.source} belongs at {site.hook_name}, and sae.component and sae.layer ask for {asked.hook_name}; "
            "leave them out"
        )
    _check_processing(found, network)
    model = str(own.metadata.model_name or "")
    weights = (own.metadata.tiny_ablation or {}).get("weights")
    if weights is not None:
        same = weights == network.model.weights_hash
    else:
        names = {network.model.name, network.model.origin.get("repo", ""), network.hf.config.name_or_path or ""}
        same = _bare(model) in {_bare(each) for each in names if each}
    if not cfg.other_model and not same:
        raise ModelError(
            f"sae: {found.source} was trained on the model {model or 'of no name'}, and this is {network.model.name}; take "
            "another, or sae.other_model=true if the two are one"
        )


def _bare(name: str) -> str:
    """`gpt2` for `openai-community/gpt2` and for TransformerLens' `gpt2-small`."""
    bare = name.rstrip("/").rpartition("/")[2].lower().replace("_", "-").removesuffix("-deduped")
    return "gpt2" if bare == "gpt2-small" else bare


def _check_processing(found: Autoencoder, network: "Network") -> None:
    """Refuse an autoencoder that was made for other activations than those of the weights here.

    Processing weights as TransformerLens does keeps a model's predictions and changes some of its activations: centring what
    writes to the residual stream changes the streams and what is added to them, folding value biases changes `z`, and the rest
    changes neither. `model.weights=folded` does both, in float64. So an autoencoder made for weights that were processed this
    way is used with it, and one made for weights as trained with `model.weights=raw`.
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
    if not of_heads and "RMS" in type(network.final_norm).__name__:
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


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """SAELens warns about what a person who only loads need not know."""
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
