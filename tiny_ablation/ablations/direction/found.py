"""Where the directions of a run come from: means over pairs of prompts, or a file. Each function also gives notes on them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tiny_ablation.ablations.direction.vectors import SITE, Difference, Given
from tiny_ablation.data.text import listing
from tiny_ablation.errors import ConfigError, DataError, first_line
from tiny_ablation.models.placed import weight_like
from tiny_ablation.run.plan import PlanContext


def differences(
    n_reference: int, read_at: str, context: PlanContext, layers: Sequence[int]
) -> tuple[dict[int, Difference], dict[str, Any]]:
    """For each layer the difference of means between clean and corrupt prompts that are not evaluated.

    Args:
        n_reference: at most so many pairs.
        read_at: the tokens that the means are taken over.
        context: of the plan.
        layers: whose directions.

    Raises:
        DataError: a pair has no corrupt prompt.
    """
    from tiny_ablation.engine.means import Means  # imports torch

    reference = context.reference(n_reference)
    pairs = zip(reference.prompts, reference.corrupt, strict=True)
    if missing := [clean.name for clean, corrupt in pairs if not corrupt.ids]:
        raise DataError(
            f"ablation=direction takes the difference between clean and corrupt prompts, and {len(missing)} of the "
            f"{len(reference.prompts)} examples for it have no corrupt prompt: {listing(missing)}; add the field corrupt to "
            "these rows, or name a direction in ablation.file"
        )
    prompts = [*reference.prompts, *reference.corrupt]
    rows = [
        [int(n >= len(reference.prompts)) if prompt.covers(read_at, at) else 2 for at in range(len(prompt.ids))]
        for n, prompt in enumerate(prompts)
    ]
    n_rows = 1 + max(row for of_prompt in rows for row in of_prompt)  # the last is of the tokens that are not read
    means = Means(context.network, prompts, rows, n_rows, [(SITE, layer) for layer in layers])
    text = (
        f"The direction of a layer is the mean over {len(reference.prompts)} clean prompts that are not evaluated, at "
        f"{'all their tokens' if read_at == 'all' else 'their last token'}, minus that over their corrupt ones."
    )
    return {layer: Difference(means, layer) for layer in layers}, {"text": text, "reference": reference.composition}


def given(file: str, tensor: str, context: PlanContext, layers: Sequence[int]) -> tuple[dict[int, Given], dict[str, Any]]:
    """For each layer the direction that a safetensors file holds under the name `tensor`.

    Raises:
        ConfigError: there is none for this model.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(Path(file).expanduser())
    except (SafetensorError, OSError) as error:
        raise ConfigError(f"ablation.file={file} cannot be read as safetensors: {first_line(error)}") from error
    if tensor not in tensors:
        raise ConfigError(
            f"ablation.file={file} has no tensor {tensor}; ablation.tensor names one of {listing(sorted(tensors))}"
        )
    found, shape = tensors[tensor], context.shape
    if found.shape not in ((shape.d_model,), (shape.n_layers, shape.d_model)) or not found.is_floating_point():
        raise ConfigError(
            f"ablation.file={file}: {tensor} is {tuple(found.shape)} of {str(found.dtype).removeprefix('torch.')}; this model "
            f"takes floating-point numbers ({shape.d_model},), one direction for all layers, or ({shape.n_layers}, "
            f"{shape.d_model}), one for each"
        )
    each, like = found.expand(shape.n_layers, -1), weight_like(context.network.hf)
    for layer in layers:
        if not torch.isfinite(each[layer]).all() or not each[layer].any():
            raise ConfigError(f"ablation.file={file}: {tensor} has no direction for layer {layer}: it is zero or not finite")
    text = f"The directions are {tensor} of {Path(file).name}."
    return {layer: Given(each[layer].to(like)) for layer in layers}, {"text": text}
