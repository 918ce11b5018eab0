"""The token loss against the bare minimum: head product, `log_softmax`, `gather`, sum, backward, on the whole at once.

Ours is what the trainer does behind the hidden states: `token_scores` in chunks, the entropy for the report, then the
loss of a PPO preset. Vocabulary 151,936, float32, one thread; the head is frozen, the hidden states get a gradient.
`python loss.py SIDE WIDTH TOKENS` prints the bytes that one forward and backward adds to a process's peak.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from peak import own_peak, run_alone
from timing import medians
from torch import Tensor

from marft.blocks import Algorithm
from marft.config import Sampling
from marft.credit import algorithm
from marft.logprobs import token_scores
from marft.loss import policy_loss

VOCABULARY = 151_936
SIZES = [(64, 64), (64, 1024), (256, 256), (256, 1024), (1024, 256)]
WITH_ENTROPY = [(256, 256)]


class Batch(NamedTuple):
    """A head, (V, width), and some tokens with what the loss reads of them."""

    head_V: Tensor
    hidden_N: Tensor
    target_N: Tensor
    old_N: Tensor
    advantage_N: Tensor
    weight_N: Tensor


def make_batch(width: int, tokens: int) -> Batch:
    """Random numbers, of which nothing but their sizes matters."""
    generator = torch.Generator().manual_seed(0)
    head_V = torch.empty(VOCABULARY, width).normal_(std=width**-0.5, generator=generator)
    hidden_N, old_N, advantage_N = (torch.randn(s, generator=generator) for s in ((tokens, width), tokens, tokens))
    target_N = torch.randint(VOCABULARY, (tokens,), generator=generator)
    return Batch(
        head_V, hidden_N.requires_grad_(), target_N, old_N - 12, advantage_N, torch.full((tokens,), 1 / tokens)
    )


def ours(batch: Batch, settings: Algorithm) -> None:
    """Forward and backward as the trainer does them."""
    scores = token_scores(
        lambda hidden: torch.nn.functional.linear(hidden, batch.head_V),
        batch.hidden_N,
        batch.target_N,
        Sampling(),
        vocabulary=VOCABULARY,
        entropy_gradient=settings.entropy != 0,
    )
    old_N, advantage_N, weight_N = batch.old_N, batch.advantage_N, batch.weight_N
    loss, _ = policy_loss(settings, scores.logp_N, old_N, old_N, None, advantage_N, weight_N, scores.entropy_N)
    _backward(loss, batch)


def bare(batch: Batch) -> None:
    """What a loss on log-probs costs at least, written down directly; the logits go as soon as they are normalised."""
    _backward(_logprobs(batch).gather(-1, batch.target_N[:, None]).sum(), batch)


def bare_with_entropy(batch: Batch) -> None:
    """The same with an entropy bonus."""
    logprobs_NV = _logprobs(batch)
    entropy = -(logprobs_NV.exp() * logprobs_NV).sum()
    _backward(logprobs_NV.gather(-1, batch.target_N[:, None]).sum() + 0.01 * entropy, batch)


def _logprobs(batch: Batch) -> Tensor:
    return torch.log_softmax(torch.nn.functional.linear(batch.hidden_N, batch.head_V), -1)


def _backward(loss: Tensor, batch: Batch) -> None:
    loss.backward()
    batch.hidden_N.grad = None


PPO = algorithm("ippo")
SIDES: dict[str, Callable[[Batch], None]] = {
    "ours": lambda batch: ours(batch, PPO),
    "bare": bare,
    "ours_entropy": lambda batch: ours(batch, PPO.model_copy(update={"entropy": 0.01})),
    "bare_entropy": bare_with_entropy,
}


def table(rounds: int) -> list[tuple[str, str]]:
    """Time and memory of both sides at several sizes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rows = [_row(f"width {w:,}, {n:,} tokens", ("ours", "bare"), w, n, rounds) for w, n in SIZES]
        for w, n in WITH_ENTROPY:
            name = f"width {w:,}, {n:,} tokens, entropy in the loss of both"
            rows.append(_row(name, ("ours_entropy", "bare_entropy"), w, n, rounds))
    finally:
        torch.set_num_threads(threads)
    return rows


def _row(name: str, sides: tuple[str, str], width: int, tokens: int, rounds: int) -> tuple[str, str]:
    batch = make_batch(width, tokens)
    seconds = medians({side: lambda side=side: SIDES[side](batch) for side in sides}, rounds, time.process_time)
    mine, other = seconds.values()
    my_peak, other_peak = (run_alone(Path(__file__), side, width, tokens) for side in sides)
    return name, (
        f"{mine:.2f} s, bare {other:.2f} s: {mine / other:.2f} of its time; {my_peak / 2**20:,.0f} MiB, "
        f"bare {other_peak / 2**20:,.0f} MiB: {my_peak / other_peak:.2f} of its memory"
    )


def added_peak(side: str, width: int, tokens: int) -> int:
    """Bytes by which one forward and backward raises this process's peak, its inputs being there already."""
    torch.set_num_threads(1)
    SIDES[side](make_batch(width, 2))  # libraries take what they keep
    batch = make_batch(width, tokens)
    before = own_peak()
    SIDES[side](batch)
    return own_peak() - before


if __name__ == "__main__":
    print(json.dumps(added_peak(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
