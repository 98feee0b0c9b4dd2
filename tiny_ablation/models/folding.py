"""`model.weights=folded`: the same function with other weights, as much of the literature ablates it.

Three rewrites that leave every log-probability as it was (to rounding):

- the gain and bias of each layer norm move into the linear maps that read it;
- the value bias moves through the output projection into its bias, for attention weights sum to one; `z` of
  a head then is what the head moved, without a constant, so that zeroing it removes less;
- where the norms centre (LayerNorm), whatever writes to the residual stream is centred, for nothing reads
  its mean.

Zero ablation depends on which form is ablated; mean and resample ablation do not. The model is changed in
place, in its own precision; the arithmetic is done in float64.

Reference: TransformerLens, `fold_ln`, `fold_value_biases` and `center_writing_weights`.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from tiny_ablation.errors import ModelError

if TYPE_CHECKING:
    import torch
    from torch import nn


class Linear(NamedTuple):
    """A linear map of any family."""

    module: "nn.Module"  # with `weight` and, maybe, `bias`
    transposed: bool = False  # whether `weight` is (in, out), as in GPT-2's `Conv1D`, rather than (out, in)

    @property
    def weight(self) -> "torch.Tensor":
        """A float64 copy, (out, in)."""
        weight: Any = self.module.weight
        return (weight.T if self.transposed else weight).double()

    @property
    def bias(self) -> "torch.Tensor":
        """A float64 copy, (out,); zeros where there is none."""
        bias: Any = self.module.bias
        return self.weight.new_zeros(self.weight.shape[0]) if bias is None else bias.double()

    def set_weight(self, weight: "torch.Tensor") -> None:
        """Overwrite the weight with (out, in)."""
        _overwrite(self.module.weight, weight.T if self.transposed else weight)

    def set_bias(self, bias: "torch.Tensor") -> None:
        """Overwrite the bias, or give the map one."""
        import torch

        if self.module.bias is None:
            weight: Any = self.module.weight
            self.module.bias = torch.nn.Parameter(bias.to(weight.dtype), requires_grad=weight.requires_grad)
        else:
            _overwrite(self.module.bias, bias)


class Block(NamedTuple):
    """The parts of a transformer block that folding touches."""

    reads: "list[tuple[nn.Module, list[Linear]]]"  # each norm with the linear maps that read its output
    value: Linear  # the map whose output holds the values
    value_rows: "torch.Tensor"  # for each query head in turn, the rows of `value` that make its values
    output: Linear  # the attention output projection
    writes: list[Linear]  # the maps that write to the residual stream


def fold_weights(hf: Any) -> None:
    """Fold norms and value biases of a causal language model, and centre what is written, in place.

    Raises:
        ModelError: how the architecture is to be folded is not known here.
    """
    import torch

    kind = hf.config.model_type
    if kind not in _READERS:
        raise ModelError(
            f"model.weights=folded is not known for {type(hf).__name__}, only for {', '.join(_READERS)}; use model.weights=raw."
        )
    layers, final_norm, embeddings, read_block = _READERS[kind](hf)
    with torch.no_grad():
        head = hf.get_output_embeddings()
        if head.weight is hf.get_input_embeddings().weight:  # the final norm goes into the unembedding alone
            head.weight = torch.nn.Parameter(head.weight.clone(), requires_grad=head.weight.requires_grad)
        hf.config.tie_word_embeddings = False
        blocks = [read_block(layer) for layer in layers]
        for block in blocks:
            for norm, readers in block.reads:
                _fold_norm(norm, readers)
            bias = block.value.bias
            moved = bias[block.value_rows]
            if moved.any():
                block.output.set_bias(block.output.bias + block.output.weight @ moved)
                bias[block.value_rows] = 0
                block.value.set_bias(bias)
        _fold_norm(final_norm, [Linear(head)])
        if isinstance(final_norm, torch.nn.LayerNorm):  # norms that do not read the mean over the stream's coordinates
            for embedding in embeddings:
                weight: Any = embedding.weight  # (tokens or positions, d_model)
                _overwrite(weight, weight.double() - weight.double().mean(dim=1, keepdim=True))
            for linear in (linear for block in blocks for linear in block.writes):
                linear.set_weight(linear.weight - linear.weight.mean(dim=0, keepdim=True))
                linear.set_bias(linear.bias - linear.bias.mean())


def _fold_norm(norm: Any, readers: list[Linear]) -> None:
    """W(g * x + b) + c = (W g) x + (W b + c)."""
    gain, bias = norm.weight.double(), getattr(norm, "bias", None)
    for linear in readers:
        weight = linear.weight
        if bias is not None:
            linear.set_bias(linear.bias + weight @ bias.double())
        linear.set_weight(weight * gain)
    norm.weight.fill_(1)
    if bias is not None:
        bias.fill_(0)


def _overwrite(parameter: Any, value: "torch.Tensor") -> None:
    parameter.copy_(value.to(parameter.dtype))


_Parts = tuple[Any, Any, list[Any], Callable[[Any], Block]]


def _llama(hf: Any) -> _Parts:
    import torch

    config = hf.config
    n_heads, n_kv_heads = config.num_attention_heads, config.num_key_value_heads
    d_head = getattr(config, "head_dim", None) or config.hidden_size // n_heads
    # For each query head the rows of its key/value head, (n_heads * d_head,)
    rows = torch.arange(n_kv_heads * d_head).view(n_kv_heads, d_head)
    rows = rows.repeat_interleave(n_heads // n_kv_heads, dim=0).flatten()

    def block(layer: Any) -> Block:
        attention, mlp = layer.self_attn, layer.mlp
        attention_reads = [Linear(attention.q_proj), Linear(attention.k_proj), Linear(attention.v_proj)]
        reads = [
            (layer.input_layernorm, attention_reads),
            (layer.post_attention_layernorm, [Linear(mlp.gate_proj), Linear(mlp.up_proj)]),
        ]
        output = Linear(attention.o_proj)
        return Block(reads, Linear(attention.v_proj), rows, output, [output, Linear(mlp.down_proj)])

    return hf.model.layers, hf.model.norm, [hf.model.embed_tokens], block


def _gpt2(hf: Any) -> _Parts:
    import torch

    width = hf.config.n_embd
    rows = torch.arange(2 * width, 3 * width)  # queries, keys, then values

    def block(layer: Any) -> Block:
        joint, output = Linear(layer.attn.c_attn, transposed=True), Linear(layer.attn.c_proj, transposed=True)
        up, down = Linear(layer.mlp.c_fc, transposed=True), Linear(layer.mlp.c_proj, transposed=True)
        return Block([(layer.ln_1, [joint]), (layer.ln_2, [up])], joint, rows, output, [output, down])

    inner = hf.transformer
    return inner.h, inner.ln_f, [inner.wte, inner.wpe], block


def _neox(hf: Any) -> _Parts:
    import torch

    n_heads = hf.config.num_attention_heads
    d_head = hf.config.hidden_size // n_heads
    # The rows are q, k and v of one head, then those of the next.
    rows = torch.arange(3 * n_heads * d_head).view(n_heads, 3, d_head)[:, 2].flatten()

    def block(layer: Any) -> Block:
        joint, output = Linear(layer.attention.query_key_value), Linear(layer.attention.dense)
        up, down = Linear(layer.mlp.dense_h_to_4h), Linear(layer.mlp.dense_4h_to_h)
        reads = [(layer.input_layernorm, [joint]), (layer.post_attention_layernorm, [up])]
        return Block(reads, joint, rows, output, [output, down])

    inner = hf.gpt_neox
    return inner.layers, inner.final_layer_norm, [inner.embed_in], block


_READERS = {**dict.fromkeys(("llama", "mistral", "qwen2", "qwen3"), _llama), "gpt2": _gpt2, "gpt_neox": _neox}
