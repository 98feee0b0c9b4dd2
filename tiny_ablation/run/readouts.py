"""Tables of what the parts of the model write towards the answer and where its heads attend, beside their effects.

`head_readouts` has a row for each head, `layer_readouts` for each layer: means over at most `MOST_PROMPTS` prompts.
`head_prompts` has a row for each of the strongest heads and the prompts that it changes most.
"""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from tiny_ablation.data.text import token_text
from tiny_ablation.engine.readouts import Reading, induction_scores, read_prompt
from tiny_ablation.run.baseline import prompt_of

if TYPE_CHECKING:
    from tiny_ablation.engine.prompts import Prompt
    from tiny_ablation.run.measure import Measured
    from tiny_ablation.run.prepare import PreparedRun

MOST_PROMPTS = 64
HEADS, PROMPTS = 3, 8  # that `head_prompts` is about
_TOKENS = 5  # attended to, promoted, suppressed
_TABLES = ("head_impact", "layer_impact")


def readout_tables(
    prepared: "PreparedRun", measured: "Sequence[Measured]", top: Sequence[Mapping[str, Any]]
) -> dict[str, pd.DataFrame]:
    """The tables by the stem of their file; none where the kind is not about heads or layers, or answers begin alike."""
    prompts = {int(i): prompt_of(prepared.tokens[i]) for i in measured[0].examples}
    prompts = {i: p for i, p in prompts.items() if set(p.right or p.target[:1]) != set(p.wrong or p.foil[:1])}
    if prepared.spec.table not in _TABLES or not prompts:
        return {}
    chosen = _most_changed(prepared, measured[0], top, prompts)
    every = list(prompts)
    averaged = {every[i] for i in np.linspace(0, len(every) - 1, min(len(every), MOST_PROMPTS)).astype(int)}
    heads, layers, of_prompts = [], [], {}
    for example in sorted(averaged.union(*chosen.values())):
        reading = read_prompt(prepared.network, prompts[example])
        if example in averaged:
            heads.append(_of_heads(reading))
            layers.append(torch.stack([reading.lens, reading.attn_out, reading.mlp_out], -1).double().numpy())
        for site in (site for site, examples in chosen.items() if example in examples):
            of_prompts[site, example] = _of_prompt(prepared, example, site, reading)
    shape = prepared.network.shape
    index = pd.MultiIndex.from_product([range(shape.n_layers), range(shape.n_heads)], names=["layer", "head"])
    of_heads = pd.DataFrame(np.mean(heads, 0).reshape(len(index), -1), index, ["direct", "to_first", "to_previous", "to_self"])
    of_heads["induction"] = induction_scores(prepared.network).double().numpy().ravel()
    of_layers = pd.DataFrame(np.mean(layers, 0), columns=["lens", "attn_out", "mlp_out"]).rename_axis("layer")
    found = {"head_readouts": of_heads.reset_index(), "layer_readouts": of_layers.reset_index()}
    ordered = [of_prompts[site, example] for site, examples in chosen.items() for example in examples]
    return found | ({"head_prompts": pd.DataFrame(ordered)} if ordered else {})


def _most_changed(
    prepared: "PreparedRun", measured: "Measured", top: Sequence[Mapping[str, Any]], prompts: Mapping[int, "Prompt"]
) -> dict[tuple[int, int], list[int]]:
    """For the strongest heads, the examples whose primary metric they change most, the most first."""
    changes = np.abs(measured.delta(prepared.metrics[0].name))
    found: dict[tuple[int, int], list[int]] = {}
    for site in top[:HEADS] if prepared.spec.table == "head_impact" else ():
        for row, change in zip(measured.arm.rows, changes, strict=True):
            if all(row.key[column] == site[column] for column in ("layer", "head", "scale")):
                order = measured.examples[np.argsort(-change, kind="stable")][:PROMPTS]
                found.setdefault((site["layer"], site["head"]), [int(i) for i in order if int(i) in prompts])
    return found


def _of_heads(reading: Reading) -> np.ndarray:
    """(n_layers, n_heads, 4): direct contribution, mean attention to the first token, to the one before, to itself.

    Of every token but the first, which sees itself alone.
    """
    direct = reading.heads.double()
    if reading.attention is None or reading.attention.shape[-1] < 2:
        nothing = torch.full_like(direct, torch.nan)
        return torch.stack([direct, nothing, nothing, nothing], -1).numpy()
    weights = reading.attention.double()
    later = weights[..., 1:, :]
    return torch.stack(
        [direct, later[..., 0].mean(-1), weights.diagonal(-1, -2, -1).mean(-1), later.diagonal(1, -2, -1).mean(-1)], -1
    ).numpy()


def _of_prompt(prepared: "PreparedRun", example: int, site: tuple[int, int], reading: Reading) -> dict[str, Any]:
    layer, head = site
    tokens, promotes = prepared.tokens[example], reading.promotes(layer)[head]
    text = partial(token_text, prepared.network.model.tokenizer)
    attended: list[Any] = []
    if reading.attention is not None:
        weights = reading.attention[layer, head, -1]
        order = torch.argsort(-weights, stable=True)[:_TOKENS].tolist()
        attended = [[i, text(tokens.clean_ids[i]), float(weights[i])] for i in order]
    ranked = torch.argsort(-promotes, stable=True).tolist()

    def words(ids: list[int]) -> list[Any]:
        return [[text(i), float(promotes[i])] for i in ids]

    texts = {"attended": attended, "promoted": words(ranked[:_TOKENS]), "suppressed": words(ranked[: -_TOKENS - 1 : -1])}
    return {"layer": layer, "head": head, "example_id": tokens.example.id, "direct": float(reading.heads[layer, head])} | {
        name: json.dumps(value, ensure_ascii=False) for name, value in texts.items()
    }
