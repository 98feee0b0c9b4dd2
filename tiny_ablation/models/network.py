"""A loaded model as the rest of the tool sees it.

`Network.bridge` is TransformerLens' `TransformerBridge` and is what people explore with. `Network.hf` is the plain Hugging
Face model, which the fast engine runs: the bridge re-implements attention around its hooks and costs 1.3 times as much per
token. Both hold the same tensors, so there is one copy of the weights, and the names of the plain model's parts come from the
bridge's adapter, so that there is one source for them too.
"""

import copy
import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from tiny_ablation.errors import ModelError
from tiny_ablation.models.architectures import length_class, restarts
from tiny_ablation.models.hookpoints import BlockNames, HookPoint, ModelShape, block_names, find_hook_point

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformer_lens.model_bridge import TransformerBridge

    from tiny_ablation.models.loader import LoadedModel

# What configs call the number of tokens that some layers look back, the present one among them.
_WINDOWS = ("sliding_window", "window_size", "attention_chunk_size")


class TreeLimits(NamedTuple):
    """Which prompts a model computes exactly in one prefix tree.

    Attributes:
        nodes: how many nodes a tree may have; 0 where the model computes none.
        length_class: of a prompt's number of tokens; prompts of two classes must not share a pass of any form.
    """

    nodes: float = math.inf
    length_class: Callable[[int], Hashable] = lambda _: 0


UNLIMITED = TreeLimits()


@dataclass
class Network:
    """A model whose parts have names.

    Attributes:
        model: the weights, the tokenizer and where they came from.
        bridge: TransformerLens' bridge over the same tensors.
        names: where the parts are in the plain model.
        shape: numbers of layers, heads and so on.
        tokens: how many token positions went into forward passes so far, through either model; a pass that begins at a later
            block, or stops early, counts like a whole one.
    """

    model: "LoadedModel"
    bridge: "TransformerBridge"
    names: BlockNames
    shape: ModelShape
    tokens: int = field(default=0, init=False)

    @property
    def hf(self) -> Any:
        """The plain Hugging Face model."""
        return self.model.hf

    def forward(self, input_ids: "Tensor", **kwargs: Any) -> Any:
        """What the plain model makes of (rows, width) token ids; counted in `tokens`."""
        self.tokens += input_ids.numel()
        for restart in self._restarts:
            restart()
        return self.hf(input_ids=input_ids, **kwargs)

    @property
    def device(self) -> str:
        """Where the weights are."""
        return str(next(self.hf.parameters()).device)

    @cached_property
    def blocks(self) -> "list[nn.Module]":
        """The transformer blocks, first to last."""
        return list(self.hf.get_submodule(self.names.blocks))

    @property
    def unembed(self) -> "nn.Module":
        """The module that maps the final residual stream to logits."""
        return self.hf.get_submodule(self.names.unembed)

    @cached_property
    def blocks_return_tuple(self) -> bool:
        """Whether a block returns a tuple (older architectures) or the residual stream itself; found by running one token."""
        seen: list[bool] = []
        handle = self.blocks[0].register_forward_hook(
            lambda _m, _a, output: seen.append(isinstance(output, tuple))
        )
        try:
            self._logits(input_ids=[[0]])
        finally:
            handle.remove()
        return seen[0]

    @cached_property
    def tree_is_exact(self) -> bool:
        """Whether the model computes a prefix tree (own mask and positions) as it computes the prompts one by one.

        Found by running two prompts that share a prefix both ways, at every token; architectures whose masks or positions do
        not allow it, such as those with ALiBi or without a causal mask, fall back to unshared prompts.
        """
        import torch

        apart = torch.cat([self._logits(input_ids=[ids])[0] for ids in ([1, 2, 3, 4], [1, 2, 5])])
        try:
            tree = self._probe_tree()[[0, 1, 2, 3, 0, 1, 4]]
        except (TypeError, ValueError, RuntimeError, IndexError):
            return False
        return _agree(apart, tree)

    @cached_property
    def _restarts(self) -> list[Callable[[], None]]:
        return restarts(self.hf)

    @property
    def tree_limits(self) -> TreeLimits:
        """Which prompts may share a prefix tree.

        Where some layers look back a number of tokens only, a tree must not be larger: such layers count that distance in
        nodes, or take the mask of a tree for one that has been cut already.
        """
        config = self.hf.config.get_text_config()
        windows = (getattr(config, name, None) for name in _WINDOWS)
        nodes = min((size for size in windows if isinstance(size, int) and size > 0), default=math.inf)
        return TreeLimits(nodes if self.tree_is_exact else 0, length_class(config))

    @cached_property
    def tree_attention_is_exact(self) -> bool:
        """Whether the model, attending in chunks (see `tree_attention`), computes what it does under a dense mask.

        Found by running a small tree both ways. Models whose attention is code of their own do not attend in chunks at all.
        """
        import torch

        from tiny_ablation.models.tree_attention import TreeAttention

        class Watched(TreeAttention):
            calls = 0

            def __call__(self, *args: Any, **kwargs: Any) -> "tuple[Tensor, None]":
                Watched.calls += 1
                return super().__call__(*args, **kwargs)

        weight = next(self.hf.parameters())
        if weight.device.type != "cpu" or weight.dtype not in (torch.float32, torch.float64):
            return False
        if not self.tree_is_exact:
            return False
        with Watched(_probe_sees(), chunk=2).in_use(self.hf):
            chunked = self._probe_tree()
        return Watched.calls == self.shape.n_layers and _agree(self._probe_tree(), chunked)

    def _probe_tree(self) -> "Tensor":
        """(5, d_vocab): logits of two prompts, 1 2 3 4 and 1 2 5, as a tree."""
        return self._logits(input_ids=[[1, 2, 3, 4, 5]], position_ids=[[0, 1, 2, 3, 2]], sees=_probe_sees())[
            0
        ]

    def _logits(self, *, input_ids: list[list[int]], position_ids: Any = None, sees: Any = None) -> "Tensor":
        import torch

        kwargs: dict[str, Any] = {
            "input_ids": torch.tensor(input_ids, device=self.device),
            "use_cache": False,
        }
        if position_ids is not None:
            kwargs["position_ids"] = torch.tensor(position_ids, device=self.device)
        if sees is not None:
            dtype = next(self.hf.parameters()).dtype
            mask = torch.zeros(sees.shape, dtype=dtype).masked_fill_(~sees, torch.finfo(dtype).min)
            kwargs["attention_mask"] = mask.to(self.device)[None, None]
        with torch.inference_mode():
            return self.forward(**kwargs).logits

    def hook_point(self, component: str, layer: int) -> HookPoint:
        """The place called `component` in block `layer`; see `hookpoints` for the names and shapes."""
        return find_hook_point(self.hf, self.names, self.shape, component, layer)


def _probe_sees() -> "Tensor":
    """(5, 5) bool: who sees whom among the nodes 1 2 3 4 of one prompt and 5 of another, which branches off behind 2."""
    import torch

    return torch.tensor(
        [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 1, 0, 0, 1]],
        dtype=torch.bool,
    )


def _agree(a: "Tensor", b: "Tensor") -> bool:
    """Whether logits that were computed in two ways are the same but for rounding."""
    import torch

    tolerance = 1e-3 if a.dtype in (torch.float32, torch.float64) else 0.1
    return bool((a - b).abs().max() <= tolerance * a.abs().max().clamp_min(1))


def build_network(model: "LoadedModel") -> Network:
    """Wrap a loaded model.

    Raises:
        ModelError: TransformerLens has no adapter for the architecture.
    """
    bridge = _boot_bridge(model)
    cfg: Any = bridge.cfg
    names = block_names(bridge.adapter)
    layers = len(list(model.hf.get_submodule(names.blocks).children()))
    n_kv = getattr(cfg, "n_key_value_heads", None) or cfg.n_heads
    d_mlp = getattr(cfg, "d_mlp", None) or 4 * cfg.d_model
    shape = ModelShape(layers, cfg.n_heads, n_kv, cfg.d_model, cfg.d_head, d_mlp, _vocabulary(model))
    return Network(model, bridge, names, shape)


def _vocabulary(model: "LoadedModel") -> int:
    """How many logits the model gives, which may be more than its tokenizer has tokens."""
    unembed: Any = model.hf.get_output_embeddings()
    return unembed.weight.shape[0]


def _boot_bridge(model: "LoadedModel") -> "TransformerBridge":
    from transformer_lens.model_bridge import TransformerBridge

    # Booting replaces modules in place, so the bridge gets a skeleton of its own; the seeded memo makes deepcopy hand out
    # the very same tensors, and no weight is copied.
    tensors = [*model.hf.parameters(), *model.hf.buffers()]
    skeleton = copy.deepcopy(model.hf, {id(tensor): tensor for tensor in tensors})
    skeleton.config._attn_implementation = "eager"
    device = tensors[0].device
    try:
        return TransformerBridge.boot_transformers(
            model.name,
            hf_model=skeleton,
            tokenizer=_bridge_tokenizer(model.tokenizer),
            device=str(device),
            dtype=tensors[0].dtype,
        )
    except (ValueError, KeyError, AttributeError) as error:
        architecture = (getattr(model.hf.config, "architectures", None) or [type(model.hf).__name__])[0]
        raise ModelError(
            f"model {model.name}: TransformerLens cannot wrap {architecture}: {error}"
        ) from error


def _bridge_tokenizer(tokenizer: Any) -> Any:
    """A copy for the bridge, which sets pad tokens on it.

    It is marked as a tokenizer whose BOS setting is final: otherwise booting reads it again from the hub or the disk, with
    BOS turned on behind our back. Our own token ids never come from this copy.
    """
    own = copy.deepcopy(tokenizer)
    own.init_kwargs = {**tokenizer.init_kwargs, "add_bos_token": True, "name_or_path": tokenizer.name_or_path}
    return own
