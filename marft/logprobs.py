"""Log-probs of given tokens out of hidden states, without the logits of all of them ever standing in memory.

Tokens are scored chunk by chunk. As long as the head itself is not trained, the loss sees a token's score through that
token's hidden state alone, and the derivative, a vector, is known as soon as the score is: it is made while the chunk's
logits are there, and the backward pass only scales it. No logits are kept and none are made twice. A head with trained
weights (LoRA on it) has no such vector; its chunks are made once more in the backward pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from marft.config import Sampling
from marft.sampling import sampled_logprobs

LOGITS_AT_ONCE = 1 << 24
"""Logits above this number are made chunk by chunk; three arrays of a chunk's size are alive at a time."""
ON_ACCELERATORS = 4
"""How many times as many there: with few rows the head's product would only wait for the head's weights."""


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
    over `vocabulary` ids of these, each row for itself, and takes no rows at all as well.

    The log-prob is that of the tempered distribution. Only `sampled` looks at top-k and top-p, because an engine's
    log-probs do: the ratio of the full to the truncated distribution is the importance weight that is due.
    """
    most = max(1, LOGITS_AT_ONCE * (1 if hidden_N.device.type == "cpu" else ON_ACCELERATORS) // vocabulary)
    count = max(1, math.ceil(len(hidden_N) / most))  # of equal chunks: a small last one would be as slow as a large one
    chunks = list(zip(hidden_N.chunk(count), target_N.chunk(count), strict=True))
    none_0V = head(hidden_N[:0].detach())  # tells whether the head is trained, and the kind of logits it makes
    if none_0V.requires_grad:

        def score(*chunk: Tensor) -> TokenScores:
            return _score(head, *chunk, sampling, entropy_gradient)

        kept = len(chunks) == 1
        return TokenScores(*_join(score(*c) if kept else checkpoint(score, *c, use_reentrant=False) for c in chunks))

    graded = torch.is_grad_enabled() and hidden_N.requires_grad
    slopes = (1 + entropy_gradient) if graded else 0
    dtype = torch.promote_types(none_0V.dtype, torch.float32)
    work_2CV = none_0V.new_empty((2, len(chunks[0][0]), none_0V.shape[-1]), dtype=dtype)
    *scores, logp_slope_N, entropy_slope_N = _join(_score_frozen(head, *c, sampling, work_2CV, slopes) for c in chunks)
    logp_N, entropy_N, sampled_N = scores
    if slopes > 0:
        logp_N = _WithSlope.apply(hidden_N, logp_N, logp_slope_N)
    if slopes > 1:
        entropy_N = _WithSlope.apply(hidden_N, entropy_N, entropy_slope_N)
    return TokenScores(logp_N, entropy_N, sampled_N)


@torch.no_grad()
def _score_frozen(
    head: Callable[[Tensor], Tensor],
    hidden_C: Tensor,
    target_C: Tensor,
    sampling: Sampling,
    work_2CV: Tensor,
    slopes: int,
) -> tuple[Tensor, ...]:
    """A chunk's three scores and the derivatives of log-prob and entropy by `hidden_C`; `slopes`: how many of the two.

    By the logits z, d log p_t = onehot_t − p and d H = −p (log p + H); the head's own product brings them to the hidden
    state, whatever the head does. Everything as large as the logits stands in `work_2CV`, which serves all chunks:
    getting fresh memory of that size costs the system more time than computing what goes there.
    """
    hidden_C = hidden_C.detach().requires_grad_(slopes > 0)
    with torch.set_grad_enabled(slopes > 0):
        logits_CV = head(hidden_C)
    logprobs_CV, p_CV = work_2CV[:, : len(hidden_C)]
    tempered_CV = logits_CV.detach()
    if sampling.temperature != 1.0:
        tempered_CV = p_CV.copy_(tempered_CV).div_(sampling.temperature)
    torch.log_softmax(tempered_CV, -1, dtype=p_CV.dtype, out=logprobs_CV)
    index_C = target_C[:, None]
    logp_C = logprobs_CV.gather(-1, index_C).squeeze(-1)
    sampled_C = _sampled(logits_CV.detach(), logprobs_CV, logp_C, sampling)
    torch.exp(logprobs_CV, out=p_CV)
    entropy_C = -logprobs_CV.mul_(p_CV).sum(-1)

    def slope(by_logits_CV: Tensor) -> Tensor:
        by_logits_CV = by_logits_CV.to(logits_CV.dtype)
        return torch.autograd.grad(logits_CV, hidden_C, by_logits_CV, retain_graph=True)[0] / -sampling.temperature

    unused_C = logp_C.new_empty(len(logp_C), 0)
    entropy_slope_C = slope(logprobs_CV.addcmul_(p_CV, entropy_C[:, None])) if slopes > 1 else unused_C
    logp_slope_C = slope(p_CV.scatter_add_(-1, index_C, p_CV.new_full(index_C.shape, -1.0))) if slopes else unused_C
    return logp_C, entropy_C, sampled_C, logp_slope_C, entropy_slope_C


class _WithSlope(torch.autograd.Function):
    """The values (N,) as they are, with known derivatives (N, width) by `hidden_N`, each by its own row."""

    @staticmethod
    def forward(ctx: Any, hidden_N: Tensor, value_N: Tensor, slope_N: Tensor) -> Tensor:
        ctx.save_for_backward(slope_N)
        return value_N.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_N: Tensor) -> tuple[Tensor, None, None]:
        (slope_N,) = ctx.saved_tensors
        return (grad_N[:, None] * slope_N).to(slope_N.dtype), None, None


def _score(
    head: Callable[[Tensor], Tensor], hidden_C: Tensor, target_C: Tensor, sampling: Sampling, entropy_gradient: bool
) -> TokenScores:
    """The same through autograd, for a head that is trained."""
    logits_CV = head(hidden_C)
    logprobs_CV = sampled_logprobs(logits_CV, Sampling(temperature=sampling.temperature))
    logp_C = logprobs_CV.gather(-1, target_C[:, None]).squeeze(-1)
    with torch.set_grad_enabled(torch.is_grad_enabled() and entropy_gradient):
        entropy_C = -(logprobs_CV.exp() * logprobs_CV).sum(-1)
    return TokenScores(logp_C, entropy_C, _sampled(logits_CV.detach(), logprobs_CV.detach(), logp_C.detach(), sampling))


def _sampled(logits_CV: Tensor, logprobs_CV: Tensor, logp_C: Tensor, sampling: Sampling) -> Tensor:
    """The log-prob under top-k and top-p of tokens that have `logp_C` without."""
    if not sampling.top_k and sampling.top_p == 1:
        return logp_C
    # over the kept mass, read off the likeliest token: rounding may have pushed the sampled one out of the kept
    kept_CV = sampled_logprobs(logits_CV, sampling)
    best_C = kept_CV.argmax(-1, keepdim=True)
    return logp_C - (logprobs_CV.gather(-1, best_C) - kept_CV.gather(-1, best_C)).squeeze(-1)


def _join(pieces: Any) -> list[Tensor]:
    return [torch.cat(column) for column in zip(*pieces, strict=True)]
