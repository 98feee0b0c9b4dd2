"""The ways of doing a job: the two usual loops, nnsight's where it is installed, and the engine.

All give the logit difference of every prompt under every item, as (n_items, n_prompts).
"""

import copy
import importlib.util
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from benchmarks.jobs import Item, Job, Spot, executor
from tiny_ablation.engine import scheduling
from tiny_ablation.engine.prompts import Prompt
from tiny_ablation.metrics.registry import metric, metric_names
from tiny_ablation.models import onednn_linear
from tiny_ablation.models.network import Network

Way = Callable[[Network, Job, Sequence[Item]], Tensor]
Place = tuple[str, int]  # (component, layer)
_BRIDGE = {"z": "attn.hook_z", "resid_pre": "hook_in"}


@torch.inference_mode()
def bridge_loop(network: Network, job: Job, items: Sequence[Item]) -> Tensor:
    """What TransformerLens' documentation does: a padded batch, `run_with_hooks`, one item a forward."""
    ids, mask = _padded(network, job.prompts)
    name = lambda place: f"blocks.{place[1]}.{_BRIDGE[place[0]]}"  # noqa: E731
    source: dict[Place, Tensor] = {}
    if job.sources:
        places = _places(items)
        _, cache = network.bridge.run_with_cache(
            _padded(network, job.sources)[0], attention_mask=mask, names_filter=[name(place) for place in places]
        )
        source = {place: cache[name(place)] for place in places}
    out = []
    for item in items:

        def write(x: Tensor, hook: object, spots: Sequence[Spot]) -> Tensor:
            for spot in spots:
                _put(x, spot, source)
            return x

        hooks: list[Any] = [(name(place), partial(write, spots=spots)) for place, spots in _by_place(item).items()]
        out.append(_logit_diff(network.bridge.run_with_hooks(ids, attention_mask=mask, fwd_hooks=hooks), job))
    return torch.stack(out)


@torch.inference_mode()
def plain_loop(network: Network, job: Job, items: Sequence[Item]) -> Tensor:
    """The same on the plain Hugging Face model, with module hooks."""
    ids, mask = _padded(network, job.prompts)
    source = _plain_sources(network, job, _places(items))
    out = []
    for item in items:
        handles = [_plain_hook(network, spots, source) for spots in _by_place(item).values()]
        try:
            out.append(_logit_diff(network.hf(input_ids=ids, attention_mask=mask, use_cache=False).logits, job))
        finally:
            for handle in handles:
                handle.remove()
    return torch.stack(out)


@torch.inference_mode()
def rows_loop(network: Network, job: Job, items: Sequence[Item], tokens: int = 4096) -> Tensor:
    """The plain loop with several items in one forward, each with rows of its own: as many as come to `tokens` tokens."""
    ids, mask = _padded(network, job.prompts)
    source, n = _plain_sources(network, job, _places(items)), len(ids)
    at_once = max(1, tokens // ids.numel())
    out = []
    for start in range(0, len(items), at_once):
        chunk = items[start : start + at_once]
        handles = [
            _plain_hook(network, spots, source, slice(row * n, (row + 1) * n))
            for row, item in enumerate(chunk)
            for spots in _by_place(item).values()
        ]
        try:
            logits = network.hf(
                input_ids=ids.repeat(len(chunk), 1), attention_mask=mask.repeat(len(chunk), 1), use_cache=False
            ).logits
        finally:
            for handle in handles:
                handle.remove()
        out += [_logit_diff(part, job) for part in logits.split(n)]
    return torch.stack(out)


@torch.inference_mode()
def nnsight_loop(network: Network, job: Job, items: Sequence[Item]) -> Tensor:
    """The same with nnsight's tracing: a padded batch, one item a trace."""
    ids, mask = _padded(network, job.prompts)
    model = _traced(network)
    blocks = model.model.layers  # of the default model
    width = network.shape.d_head
    source: dict[Place, Tensor] = {}
    if job.sources:
        found: dict[Place, Any] = {}
        with model.trace(input_ids=_padded(network, job.sources)[0], attention_mask=mask, use_cache=False):
            for place in sorted(_places(items), key=lambda place: place[1]):
                found[place] = blocks[place[1]].input.save()
        source = dict(found)
    out = []
    for item in items:
        with model.trace(input_ids=ids, attention_mask=mask, use_cache=False):
            for place, spots in sorted(_by_place(item).items(), key=lambda found: found[0][1]):
                if place[0] == "z":
                    of_heads = [i for s in spots if s.head is not None for i in range(s.head * width, (s.head + 1) * width)]
                    blocks[place[1]].self_attn.o_proj.input[..., of_heads] = 0
                else:
                    at = [spot.position for spot in spots]
                    blocks[place[1]].input[:, at] = source[place][:, at]
            logits = model.lm_head.output.save()
        out.append(_logit_diff(logits, job))
    return torch.stack(out)


def engine(network: Network, job: Job, items: Sequence[Item], **how: Any) -> Tensor:
    """The same with the tool's executor, layout included; `how` as for `jobs.executor`."""
    out = torch.full((len(items), len(job.prompts)), torch.nan, dtype=torch.float64)
    for result in executor(network, job, items, **how):
        out[:, list(result.examples)] = result.values["logit_diff"]
    return out


def engine_by_length(network: Network, job: Job, items: Sequence[Item]) -> Tensor:
    """As the engine was before prefix trees: batches by length, no pass shared by pairs, PyTorch's own products."""
    with (
        mock.patch.object(onednn_linear, "available", return_value=False),
        mock.patch.object(scheduling, "_trunks", lambda plan, *_: {(): dict(plan)}),
    ):
        return engine(network, job, items, shared=False)


def engine_every_metric(network: Network, job: Job, items: Sequence[Item]) -> Tensor:
    """The engine computing all that a run writes, most of it over the whole vocabulary."""
    metrics = [metric(name) for name in metric_names() if metric(name).span == "first"]
    return engine(network, job, items, metrics=metrics)


WAYS: dict[str, Way] = {
    "bridge loop": bridge_loop,
    "plain loop": plain_loop,
    "plain loop, items as rows": rows_loop,
    **({"nnsight loop": nnsight_loop} if importlib.util.find_spec("nnsight") else {}),
    "engine, by length": engine_by_length,
    "engine": engine,
    "engine, every metric": engine_every_metric,
}


def _traced(network: Network) -> Any:
    """nnsight's wrapper, around modules of its own over the same tensors: it rewrites the modules that it is given."""
    import nnsight  # pyright: ignore[reportMissingImports]

    if id(network) not in _wrapped:
        tensors = [*network.hf.parameters(), *network.hf.buffers()]
        _wrapped[id(network)] = nnsight.NNsight(copy.deepcopy(network.hf, {id(t): t for t in tensors}))
    return _wrapped[id(network)]


_wrapped: dict[int, Any] = {}


def _places(items: Sequence[Item]) -> list[Place]:
    return sorted({(spot.component, spot.layer) for item in items for spot in item})


def _by_place(item: Item) -> dict[Place, list[Spot]]:
    """The spots of each place, so that no place has two hooks."""
    out: dict[Place, list[Spot]] = {}
    for spot in item:
        out.setdefault((spot.component, spot.layer), []).append(spot)
    return out


def _put(x: Tensor, spot: Spot, source: dict[Place, Tensor]) -> None:
    """Change `x`, (rows, width, heads, d_head) or (rows, width, d_model), in place."""
    at: tuple[Any, ...] = (slice(None), slice(None) if spot.position is None else spot.position)
    at = at if spot.head is None else (*at, spot.head)
    x[at] = source[spot.component, spot.layer][at] if source else 0


def _plain_hook(network: Network, spots: Sequence[Spot], source: dict[Place, Tensor], rows: slice = slice(None)) -> Any:
    component, layer = spots[0].component, spots[0].layer
    point = network.hook_point(component, layer)

    def change(x: Tensor) -> Tensor:
        new = x.clone()
        for spot in spots:
            _put((point.values(new) if component == "z" else new)[rows], spot, source)
        return new

    return point.attach(change)


def _plain_sources(network: Network, job: Job, places: Sequence[Place]) -> dict[Place, Tensor]:
    if not job.sources:
        return {}
    ids, mask = _padded(network, job.sources)
    source: dict[Place, Tensor] = {}
    handles = [network.hook_point(*place).attach(lambda x, place=place: source.update({place: x.clone()})) for place in places]
    try:
        network.hf(input_ids=ids, attention_mask=mask, use_cache=False, logits_to_keep=1)
    finally:
        for handle in handles:
            handle.remove()
    return source


def _padded(network: Network, prompts: Sequence[Prompt]) -> tuple[Tensor, Tensor]:
    """(n, longest) ids padded on the right, and the mask of what is not padding."""
    width = max(len(prompt.ids) for prompt in prompts)
    ids = torch.tensor([[*prompt.ids, *(0,) * (width - len(prompt.ids))] for prompt in prompts])
    mask = torch.tensor([[1] * len(prompt.ids) + [0] * (width - len(prompt.ids)) for prompt in prompts])
    return ids.to(network.device), mask.to(network.device)


def _logit_diff(logits: Tensor, job: Job) -> Tensor:
    """(n,) float64, read at the last token of each prompt, never at padding."""
    prompts = job.prompts
    at = logits[torch.arange(len(prompts)), [prompt.last for prompt in prompts]]

    def pick(tokens: list[int]) -> Tensor:
        return at.gather(1, torch.tensor(tokens, device=at.device)[:, None])[:, 0].double().cpu()

    return pick([prompt.target[0] for prompt in prompts]) - pick([prompt.foil[0] for prompt in prompts])
