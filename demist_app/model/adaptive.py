"""The adaptive stream: low-rank updates of the attention's projections (paper section 2.2)."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class LowRank(nn.Module):
    """LoRA of W_Q, W_K, W_V and W_O of one self-attention (Hu et al., ICLR 2022).

    W + (α/r)·B·A, with A random and B zero at start, so that the update is exactly zero. Where
    the backbone has no output projection, W_O is the identity.

    Parameters
    ----------
    channels : int
    rank, alpha : int
        r and α.
    """

    def __init__(self, channels: int, rank: int, alpha: int) -> None:
        super().__init__()
        self.scale = alpha / rank
        self.a = nn.Parameter(torch.empty(4, rank, channels))
        self.b = nn.Parameter(torch.zeros(4, channels, rank))
        nn.init.uniform_(self.a, -1 / math.sqrt(channels), 1 / math.sqrt(channels))

    def weights(self, attention: Any) -> tuple[Tensor, ...]:
        """Return the four updated weights of MONAI's `SABlock`, each (channels, channels)."""
        query, key, value, out = (self.scale * (self.b @ self.a)).unbind()
        if attention.include_fc:
            out = attention.out_proj.weight + out
        else:
            out = torch.eye(len(out), dtype=out.dtype, device=out.device) + out
        return (
            attention.to_q.weight + query,
            attention.to_k.weight + key,
            attention.to_v.weight + value,
            out,
        )

    def forward(self, tokens: Tensor, attention: Any) -> Tensor:
        """Run a `SABlock` with the updated weights on (B, N, channels)."""
        query, key, value, out = self.weights(attention)
        q, k, v = (
            functional.linear(tokens, weight, layer.bias)
            .unflatten(-1, (attention.num_heads, -1))
            .transpose(1, 2)
            for weight, layer in (
                (query, attention.to_q),
                (key, attention.to_k),
                (value, attention.to_v),
            )
        )
        attended = functional.scaled_dot_product_attention(q, k, v, scale=attention.scale)
        bias = attention.out_proj.bias if attention.include_fc else None
        return functional.linear(attended.transpose(1, 2).flatten(2), out, bias)

    @torch.no_grad()
    def merge(self, attention: Any) -> None:
        """Write the updated weights into a `SABlock`, which gets an output projection for it."""
        query, key, value, out = self.weights(attention)
        if not attention.include_fc:
            layer = nn.Linear(len(out), len(out), device=out.device, dtype=out.dtype)
            attention.out_proj = layer.requires_grad_(False)
            nn.init.zeros_(layer.bias)
            attention.include_fc = True
        attention.to_q.weight.copy_(query)
        attention.to_k.weight.copy_(key)
        attention.to_v.weight.copy_(value)
        attention.out_proj.weight.copy_(out)
