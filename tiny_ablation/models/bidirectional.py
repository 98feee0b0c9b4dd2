"""A transformer in the layout of GPT-2 in which every token sees every other, and nothing is normalised.

Compiled programs need this: they were written for attention without a causal mask and for a residual stream that is a plain
sum. The norms exist, since tools look for them, but do nothing: see `NORM_EPS` in `tiny_ablation.models.sources.induction`.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

from tiny_ablation.models.sources.induction import NORM_EPS, NORM_GAIN


class BidirectionalGPT2(GPT2LMHeadModel):
    """GPT-2 without causal mask and norms; `config` has `layer_norm_epsilon=NORM_EPS`, for code that computes norms itself."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__(config)
        transformer: Any = self.transformer
        for block in transformer.h:
            block.ln_1, block.ln_2 = _no_norm(config), _no_norm(config)
        transformer.ln_f = _no_norm(config)

    def forward(self, input_ids: Any, attention_mask: Tensor | None = None, **kwargs: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Logits of (batch, seq) token ids, as GPT-2 gives them.

        Raises:
            ValueError: a mask is given that hides anything; a prompt is read as a whole.
        """
        if attention_mask is not None and not (attention_mask.ndim == 2 and bool(attention_mask.all())):
            raise ValueError("this model sees whole prompts: it takes no attention mask and no padding")
        n = input_ids.shape[1]
        sees_all = torch.zeros(len(input_ids), 1, n, n, dtype=self.dtype, device=input_ids.device)
        return super().forward(input_ids, attention_mask=sees_all, **kwargs)


def _no_norm(config: GPT2Config) -> nn.RMSNorm:
    norm = nn.RMSNorm(config.n_embd, eps=NORM_EPS)
    nn.init.constant_(norm.weight, NORM_GAIN)
    return norm
