"""From logits to the sampled distribution, shared by engine and trainer so that they mean the same numbers."""

from __future__ import annotations

import torch
from torch import Tensor

from marft.config import Sampling


def sampled_logprobs(logits_BV: Tensor, sampling: Sampling) -> Tensor:
    """Log-probabilities (B, V) of the distribution that is sampled from: temperature, then top-k, then top-p.

    Top-p keeps the smallest set of most likely tokens whose mass reaches p, the token that crosses it included. What
    is kept is renormalised; everything else is -inf. Computed in float32 at least.
    """
    logits = logits_BV.float() if logits_BV.dtype in (torch.bfloat16, torch.float16) else logits_BV
    if sampling.temperature != 1.0:
        logits = logits / sampling.temperature
    if 0 < sampling.top_k < logits.shape[-1]:
        least = torch.topk(logits, sampling.top_k, dim=-1).values[..., -1:]
        logits = logits.masked_fill(logits < least, float("-inf"))
    if sampling.top_p < 1.0:
        ordered, order = torch.sort(logits, dim=-1, descending=True, stable=True)
        before = torch.softmax(ordered, dim=-1).cumsum(-1) - torch.softmax(ordered, dim=-1)
        drop = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, order, before >= sampling.top_p)
        logits = logits.masked_fill(drop, float("-inf"))
    return torch.log_softmax(logits, dim=-1)


def pick(logprobs_BV: Tensor, uniform_B: Tensor) -> Tensor:
    """The token ids (B,) at which the cumulative distribution passes `uniform_B` (inverse transform; float64 sums)."""
    cumulative = logprobs_BV.exp().cumsum(-1, dtype=torch.float64)
    target = uniform_B.to(cumulative).unsqueeze(-1) * cumulative[:, -1:]
    chosen = torch.searchsorted(cumulative, target, right=True).squeeze(-1)
    last = (logprobs_BV > float("-inf")).long().cumsum(-1).argmax(-1)  # rounding must never pass the last kept token
    return torch.minimum(chosen, last)
