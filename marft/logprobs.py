"""Log-probs of given tokens out of hidden states, without the logits of all of them ever standing in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from marft.config import Sampling
from marft.sampling import sampled_logprobs

LOGITS_AT_ONCE = 1 << 26
"""Logits above this number are made chunk by chunk, forward and backward."""


class TokenScores(NamedTuple):
    """Of each token, (N,): `logp` under the tempered distribution, with gradient; its `entropy`, with gradient where
    that was asked for; `sampled`, without gradient, the log-prob under the distribution that is sampled from."""

    logp_N: Tensor
    entropy_N: Tensor
    sampled_N: Tensor


def token_scores(
    head: Callable[[Tensor], Tensor],
    hidden_N: Tensor,
    target_N: Tensor,
    sampling: Sampling,
    *,
    vocabulary: int,
    entropy_gradient: bool = False,
) -> TokenScores:
    """Score `target_N`, (N,) ids, by the hidden states (N, width) that predict them; `head` makes logits
    over `vocabulary` ids of these.

    The log-prob is that of the tempered distribution. Only `sampled` looks at top-k and top-p, because an engine's
    log-probs do: the ratio of the full to the truncated distribution is the importance weight that is due.
    """

    def score(hidden_C: Tensor, target_C: Tensor) -> TokenScores:
        return _score(head(hidden_C), target_C, sampling, entropy_gradient)

    size = max(1, LOGITS_AT_ONCE // vocabulary)
    pieces = []
    for hidden_C, target_C in zip(hidden_N.split(size), target_N.split(size), strict=True):
        if len(hidden_C) < len(hidden_N) and torch.is_grad_enabled():
            pieces.append(checkpoint(score, hidden_C, target_C, use_reentrant=False))
        else:
            pieces.append(score(hidden_C, target_C))
    return TokenScores(*(torch.cat(column) for column in zip(*pieces, strict=True)))


def _score(logits_CV: Tensor, target_C: Tensor, sampling: Sampling, entropy_gradient: bool) -> TokenScores:
    logprobs_CV = sampled_logprobs(logits_CV, Sampling(temperature=sampling.temperature))
    logp_C = logprobs_CV.gather(-1, target_C[:, None]).squeeze(-1)
    with torch.set_grad_enabled(torch.is_grad_enabled() and entropy_gradient):
        entropy_C = -(logprobs_CV.exp() * logprobs_CV).sum(-1)
    sampled_C = logp_C.detach()
    if sampling.top_k or sampling.top_p < 1:
        # over the kept mass, read off the likeliest token: rounding may have pushed the sampled one out of the kept
        kept_CV = sampled_logprobs(logits_CV.detach(), sampling)
        best_C = kept_CV.argmax(-1, keepdim=True)
        lost_C = (logprobs_CV.detach().gather(-1, best_C) - kept_CV.gather(-1, best_C)).squeeze(-1)
        sampled_C = sampled_C - lost_C
    return TokenScores(logp_C, entropy_C, sampled_C)
