"""Whether the weights of a model fit its config: in number before anything is made of it, then key by key.

transformers drops weights that the config has no place for, draws at random what is missing, and reads whole numbers as
if they were floats. A model that was loaded so is another model than the one in the files, so each of these is refused.

Allowed are tensors that are no weights: what the model's own class names as left over from older versions (causal masks,
layers that predict further tokens), rotary frequencies that are those of the config, position ids, and a second copy of an
embedding that the config ties to the first.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tiny_ablation.data.text import listing
from tiny_ablation.errors import ModelError
from tiny_ablation.models.sources.files import CONFIG, weight_files

_ADVICE = "Get a complete copy of the model, with the config that it was saved with."
_BLOCKS = frozenset({"num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers", "num_decoder_layers"})
_MANY, _MOST = re.compile("experts|num_labels"), 1 << 16  # of each of these a config makes a list
_SPARE = 1 << 28  # numbers; small models may have tables that are larger than they are
_FLOATS = frozenset({"F64", "F32", "F16", "BF16"})  # as safetensors names them


def refuse_countless(name: str, directory: Path) -> None:
    """Refuse a config that asks for more blocks, experts or labels than its weights can be for.

    Reading such a config, or building its model, would go on for hours. Reads the config as JSON and the heads of the weights.

    Raises:
        ModelError: names the key of the config.
    """
    tensors = len(_heads(directory))
    for key, number in _integers(json.loads((directory / CONFIG).read_bytes())):
        if number > (tensors if key in _BLOCKS else _MOST if _MANY.search(key) else number):
            asked = f"{key}={number:,}"[:60]
            raise ModelError(
                f"model {name}: the config.json in {directory} asks for {asked}, and its weights are {tensors:,} "
                f"tensors. {_ADVICE}"
            )


def _integers(value: Any) -> Iterator[tuple[str, int]]:
    """Every whole number of a JSON value, with its key."""
    if isinstance(value, dict):
        for key, each in value.items():
            if isinstance(each, int) and not isinstance(each, bool):
                yield key, each
            else:
                yield from _integers(each)
    elif isinstance(value, list):
        for each in value:
            yield from _integers(each)


def refuse_larger(name: str, directory: Path, skeleton: Any) -> None:
    """Refuse a model (`skeleton`, on the device `meta`) that would be much larger in memory than its weights are.

    Raises:
        ModelError: says how large the model would be.
    """
    there = sum(math.prod(shape) for _, shape in _heads(directory).values())
    asked = sum(p.numel() for p in skeleton.parameters())
    buffers = sum(b.nbytes for b in skeleton.buffers())
    if asked > 2 * there + _SPARE or buffers > 4 * there + _SPARE:
        raise ModelError(
            f"model {name}: the config.json in {directory} asks for {asked:,} parameters and {buffers:,} bytes of masks and "
            f"tables, and its weights are {there:,} numbers. {_ADVICE}"
        )


def refuse_quantized(name: str, config: Any) -> None:
    """Refuse a model whose config says that its weights are quantised, naming the method (ModelError)."""
    for part in (config, config.get_text_config()):
        if asked := getattr(part, "quantization_config", None):
            get = asked.get if isinstance(asked, Mapping) else lambda key, kept=asked: getattr(kept, key, None)
            raise ModelError(
                f"model {name}: its config.json has a quantization_config (quant_method {get('quant_method')}), and such "
                "weights are not read. Give the model with its weights in float32, float16 or bfloat16."
            )


def refuse_misfit(name: str, directory: Path, hf: Any, report: Mapping[str, Any]) -> None:
    """Refuse a model whose weights are not those that its config asks for; `report` is transformers' loading info.

    Raises:
        ModelError: names every tensor that is missing, has no place, or is of another shape or type.
    """
    asked = hf.get_expanded_tied_weights_keys(all_submodels=True)
    untied = [
        f"{target} and {source} differ, and the config ties them (tie_word_embeddings)"
        for target, source in sorted(asked.items())
        if target not in hf.all_tied_weights_keys
    ]
    faults = [*_report_faults(report), *untied, *_types(hf, directory), *_frequencies(hf, directory)]
    if faults:
        raise ModelError(f"model {name}: the weights in {directory} do not fit its config.json: {'; '.join(faults)}. {_ADVICE}")


def _report_faults(report: Mapping[str, Any]) -> list[str]:
    shapes = (
        f"{key} ({_shape(found)} where {_shape(wanted)} is needed)" for key, found, wanted in sorted(report["mismatched_keys"])
    )
    found = (
        ("lack {n} that the config asks for", report["missing_keys"]),
        ("hold {n} that the config has no place for", report["unexpected_keys"]),
        ("hold {n} of another shape", shapes),
    )
    named = ((words, sorted(keys)) for words, keys in found)
    return [f"they {words.format(n=_count(keys))}: {_names(keys)}" for words, keys in named if keys]


def _types(hf: Any, directory: Path) -> list[str]:
    """The tensors that are no floats in the files and are floats in the model."""
    left_over = re.compile("|".join(f"(?:{p})" for p in hf._keys_to_ignore_on_load_unexpected or ()) or "$^")
    tensors = (*hf.named_parameters(), *hf.named_buffers())
    whole = {_last(name) for name, tensor in tensors if not tensor.is_floating_point()}
    odd = {
        key: kind
        for key, (kind, _) in _heads(directory).items()
        if kind not in _FLOATS and not left_over.search(key) and _last(key) not in whole
    }
    return [
        f"they hold {_count(keys)} of type {kind}, which are not weights but codes of weights: {_names(keys)}"
        for kind in sorted(set(odd.values()))
        for keys in [[key for key, each in odd.items() if each == kind]]
    ]


def _frequencies(hf: Any, directory: Path) -> list[str]:
    """The rotary frequencies that older versions saved, where they are not those of the config."""
    from safetensors import safe_open

    scaling = getattr(hf.config.get_text_config(), "rope_parameters", None) or {}
    if scaling.get("rope_type", "default") != "default":  # such versions saved what they scaled later
        return []
    own = [tensor.float() for name, tensor in hf.named_buffers() if name.endswith("inv_freq")]
    bad = []
    for path in weight_files(directory) if own else ():
        with safe_open(path, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118
                if key.endswith("inv_freq"):
                    saved = file.get_tensor(key).float()
                    # Up to the rounding of half precision.
                    if not any(saved.shape == one.shape and saved.allclose(one, rtol=0.02) for one in own):
                        bad.append(key)
    return [f"they hold other rotary frequencies than the config gives: {_names(bad)}"] if bad else []


def _heads(directory: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """The type of each tensor, as safetensors names it, and its shape; from the heads of the files."""
    from safetensors import safe_open

    found = {}
    for path in weight_files(directory):
        with safe_open(path, framework="np") as file:
            slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118
            found |= {key: (each.get_dtype(), tuple(each.get_shape())) for key, each in slices.items()}
    return found


def _last(key: str) -> str:
    """What a tensor is called in its module, whose own name may be another in the files."""
    return key.rpartition(".")[2]


def _count(keys: list[str]) -> str:
    return f"{len(keys)} tensor{'s' * (len(keys) != 1)}"


def _names(keys: Iterable[str]) -> str:
    """Every name; those that differ in the number of a block only stand as one, with a star for the number."""
    alike: dict[str, list[str]] = {}
    for key in keys:
        alike.setdefault(re.sub(r"\.\d+(?=\.)", ".*", key), []).append(key)
    named = (own[0] if len(own) == 1 else f"{pattern} ({len(own)})" for pattern, own in sorted(alike.items()))
    return listing([*named])


def _shape(size: Iterable[int]) -> str:
    return "x".join(map(str, size))
