"""A loaded model as the rest of the tool sees it: the plain Hugging Face model, whose parts have names and are proven.

The places of the parts are found and proven on the model itself (`discovery`, `proof`), and so is which fast ways of computing
a pass give the same as the bare model, at the lengths of a run (`paths`).
"""

import copy
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tiny_ablation.errors import ModelError, TinyAblateError, is_out_of_memory
from tiny_ablation.models.architectures import restarts
from tiny_ablation.models.discovery import ABSENT, find_final_norm, probe_ids, run, without_cache
from tiny_ablation.models.hookpoints import COMPONENTS, HookPoint, ModelShape
from tiny_ablation.models.kept_proofs import KeptProof, recall
from tiny_ablation.models.placed import weight_like
from tiny_ablation.models.proof import Parts, proven_parts

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformer_lens.model_bridge import TransformerBridge

    from tiny_ablation.models.fast import TreeLimits
    from tiny_ablation.models.loader import LoadedModel
    from tiny_ablation.models.paths import Paths
    from tiny_ablation.models.scores import ScoresPoint

_COMPARED = 24  # tokens on which two ways of attending are compared


@dataclass
class Network:
    """A model whose parts have names."""

    model: "LoadedModel"
    parts: Sequence[Parts]  # what was proven of each block
    shape: ModelShape
    proof: KeptProof = field(default_factory=lambda: KeptProof(None))  # for later processes
    # Token positions in forward passes so far; a pass that begins at a later block, or stops early, counts like a whole one.
    tokens: int = field(default=0, init=False)
    edges_proven: bool = field(default=False, init=False)  # whether cutting attention edges was seen to be exact: see engine
    # For each shortest and longest text that was tried, why keys and values must not be kept while text is written, or None.
    continuing: dict[tuple[int, int], str | None] = field(default_factory=dict, init=False)
    _paths: "dict[int, Paths]" = field(default_factory=dict, init=False)

    @property
    def hf(self) -> Any:
        """The plain Hugging Face model."""
        return self.model.hf

    def forward(self, input_ids: "Tensor", **kwargs: Any) -> Any:
        """What the plain model makes of (rows, width) token ids; counted in `tokens`."""
        self.tokens += input_ids.numel()
        for restart in self._restarts:
            restart()
        return self.hf(input_ids=input_ids, **(self._options | kwargs))

    @cached_property
    def _options(self) -> dict[str, Any]:
        return without_cache(self.hf)

    @cached_property
    def _restarts(self) -> list[Callable[[], None]]:
        return restarts(self.hf)

    @property
    def device(self) -> str:
        """Where the weights are."""
        return str(weight_like(self.hf).device)

    @cached_property
    def blocks(self) -> "list[nn.Module]":
        """The transformer blocks, first to last."""
        return [part.module for part in self.parts]

    @property
    def unembed(self) -> "nn.Module":
        """The module that maps the final residual stream to logits."""
        return self.hf.get_output_embeddings()

    @cached_property
    def final_norm(self) -> "nn.Module | None":
        """The module whose output is unembedded; None where that is the residual stream itself."""
        self.tokens += probe_ids(self.hf).numel()
        return find_final_norm(self.hf, self.unembed)

    def hook_point(self, component: str, layer: int) -> HookPoint:
        """The place called `component` in block `layer`; see `hookpoints` for the names and shapes.

        Raises:
            ModelError: there is no such place, or it could not be proven; the message says why, and what can be used.
        """
        if component == "scores":
            return self._scores[layer]
        part = self.parts[layer]
        if component in part.points:
            return part.points[component]
        left = [c for c in COMPONENTS if any(c in part.points for part in self.parts)]
        reason = part.refused.get(component, "it has no such part")
        raise ModelError(
            f"model {self.model.name}: {component} of block {layer} cannot be used: {reason}. "
            f"What can be ablated: {', '.join(left)}"
        )

    @cached_property
    def _scores(self) -> "list[ScoresPoint]":
        from tiny_ablation.models.scores import refused, scores_points

        self.tokens += 3 * probe_ids(self.hf).numel()
        found = scores_points(self.hf, self.parts)
        if isinstance(found, str):
            raise refused(self.model.name, found)
        return found

    @cached_property
    def parallel(self) -> bool:
        """Whether an MLP reads what enters its block (GPT-NeoX, Falcon), not what attention leaves: found by trying."""
        both = [p.points for p in self.parts if {"attn_out", "mlp_out"} <= {*p.points}]
        if not both:
            return False
        seen: list[Tensor] = []
        ids = probe_ids(self.hf)
        self.tokens += 2 * ids.numel()
        with both[0]["mlp_out"].on_read(lambda values: seen.append(values.clone())):
            run(self.hf, ids)
            with both[0]["attn_out"].on_write(lambda values: values.zero_()):
                run(self.hf, ids)
        return bool((seen[0] == seen[1]).all())

    def paths(self, longest: int) -> "Paths":
        """The fast ways of computing passes over prompts of at most so many tokens that were proven on this model."""
        from tiny_ablation.models.paths import prove_paths, round_up

        at = round_up(longest, self.model.context)
        if at not in self._paths:
            with told(self.model, "its fast paths are proven"):
                self._paths[at] = prove_paths(self, at, self.proof.off(at))
            self.proof.keep_off(at, self._paths[at].off)
        return self._paths[at]

    @property
    def switched_off(self) -> dict[str, str]:
        """The fast ways that did not prove exact on the prompts so far, and why each is not used."""
        from tiny_ablation.models.continuing import KEPT

        off = {name: why for paths in self._paths.values() for name, why in paths.off.items()}
        faults = [why for why in self.continuing.values() if why]
        return off | ({KEPT: faults[0]} if faults else {})

    def trees(self, longest: int) -> "TreeLimits":
        """Which prompts of at most so many tokens the model computes exactly in one prefix tree."""
        return self.paths(longest).trees

    @cached_property
    def bridge(self) -> "TransformerBridge":
        """TransformerLens' bridge over the same tensors, for people to explore with.

        Raises:
            ModelError: TransformerLens has no adapter for the architecture.
        """
        from transformer_lens.model_bridge import TransformerBridge

        hf, given = self.hf, self.model.tokenizer
        # Booting replaces modules in place, so the bridge gets a skeleton of its own; the seeded memo makes deepcopy hand out
        # the very same tensors, and no weight is copied.
        tensors = [*hf.parameters(), *hf.buffers()]
        skeleton = copy.deepcopy(hf, {id(tensor): tensor for tensor in tensors})
        skeleton.config._attn_implementation = "eager"
        # The bridge sets pad tokens on its tokenizer, so it gets a copy, marked as one whose BOS setting is final: otherwise
        # booting reads it again from the hub or the disk, with BOS turned on. Our own token ids never come from this copy.
        tokenizer = copy.deepcopy(given)
        tokenizer.init_kwargs = {**given.init_kwargs, "add_bos_token": True, "name_or_path": given.name_or_path}
        place: dict[str, Any] = {"device": str(tensors[0].device), "dtype": tensors[0].dtype}
        try:
            return TransformerBridge.boot_transformers(self.model.name, hf_model=skeleton, tokenizer=tokenizer, **place)
        except (ValueError, KeyError, AttributeError) as error:
            architecture = (getattr(hf.config, "architectures", None) or [type(hf).__name__])[0]
            raise ModelError(f"model {self.model.name}: TransformerLens cannot wrap {architecture}: {error}") from error


def build_network(model: "LoadedModel") -> Network:
    """Take a loaded model apart, and prove that its parts are where they were found, unless a proof of this very model is kept.

    Raises:
        ModelError: nothing can be ablated in it.
    """
    passed: list[int] = []

    def count(_module: "nn.Module", _args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        passed.append(kwargs["input_ids"].numel())

    with told(model, "it is taken apart"), model.hf.register_forward_pre_hook(count, with_kwargs=True):
        proof, parts = recall(model)
        if parts is None:
            _settle_attention(model)
            parts, shown = proven_parts(model.hf)
            proof.keep_parts(model, parts, shown)
        network = Network(model, parts, _shape(model, parts), proof)
    network.tokens = sum(passed)
    return network


@contextmanager
def told(model: "LoadedModel", when: str) -> Iterator[None]:
    """Within: an error of any kind but too little memory becomes a `ModelError` that names the module in which it arose.

    `when` completes "fails while ...".
    """
    try:
        yield
    except ModelError as error:
        said = str(error)
        raise ModelError(said if said.startswith(f"model {model.name}: ") else f"model {model.name}: {said}") from error
    except Exception as error:
        if isinstance(error, TinyAblateError) or is_out_of_memory(error):
            raise
        said = (str(error).strip() or "no reason given").splitlines()[0]
        names = {id(module): name for name, module in model.hf.named_modules()}
        frames = [frame.f_locals.get("self") for frame, _ in traceback.walk_tb(error.__traceback__)]
        ran = [names[id(owner)] for owner in frames if id(owner) in names]  # modules of the model, the innermost last
        what = f"the forward pass of {ran[-1] or type(model.hf).__name__}" if ran else "the tool's own code"
        raise ModelError(
            f"model {model.name}: {what} fails while {when} ({type(error).__name__}: {said}); "
            "nothing can be ablated in this model"
        ) from error


def _settle_attention(model: "LoadedModel") -> None:
    """Let the model attend eagerly where its faster attention gives something else (Falcon with ALiBi), and say so."""
    from tiny_ablation.models.judge import difference

    hf = model.hf
    before = hf.config._attn_implementation
    if before in (None, "eager"):
        return
    ids = probe_ids(hf, min(_COMPARED, model.context or _COMPARED))
    fast = run(hf, ids)
    hf.config._attn_implementation = "eager"
    fault = difference(run(hf, ids), fast)
    if fault:
        model.origin["attention"] = f"eager: with {before} {fault}"
    else:
        hf.config._attn_implementation = before
        model.origin["attention"] = before


def _shape(model: "LoadedModel", parts: Sequence[Parts]) -> ModelShape:
    def largest(component: str, axis: int) -> int:
        points = [part.points.get(component) for part in parts]
        return max((p.units.shape[axis] for p in points if p is not None and p.units is not None), default=0)

    unembed: Any = model.hf.get_output_embeddings()
    config = model.hf.config.get_text_config()
    d_model = int(getattr(config, "hidden_size", None) or unembed.weight.shape[-1])
    return ModelShape(
        n_layers=len(parts),
        n_heads=largest("z", 0),
        n_kv_heads=largest("k", 0),
        d_model=d_model,
        d_head=largest("z", 1),
        d_mlp=largest("neurons", 0) or getattr(config, "intermediate_size", None) or 4 * d_model,
        d_vocab=unembed.weight.shape[0],
        layers={c: [i for i, p in enumerate(parts) if p.refused.get(c) not in ABSENT] for c in COMPONENTS},
    )
