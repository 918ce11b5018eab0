"""L: the level of the importance ratio, its clipping, and the off-policy correction, token by token.

Pure functions of tensors over an agent's trained tokens (suffix `_N`). Each kind is one function and one table row.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from marft.blocks import Algorithm, OffPolicy, Ratio

# exp(40) still is a finite float32; two policies further apart than this on a sampled token are a defect elsewhere.
LOG_RATIO_LIMIT = 40.0


class Batch(NamedTuple):
    """What a term may look at beside the current log-probs: old policy, engine, advantage, ids, whose rows they are."""

    old_N: torch.Tensor
    engine_N: torch.Tensor
    advantage_N: torch.Tensor
    row_N: torch.Tensor | None
    turn_N: torch.Tensor | None
    foreign_N: torch.Tensor | None
    minibatch: int


def bounded_exp(log_ratio_N: torch.Tensor) -> torch.Tensor:
    """exp, of at most LOG_RATIO_LIMIT in size."""
    return log_ratio_N.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT).exp()


# L: ratio level. (settings, logp, batch) -> the ratio of each token, with gradient.


def _token_level(settings: Ratio, logp_N, batch: Batch):
    """ρ_n = π / π_old of the token (PPO, arXiv 1707.06347), its logarithm capped where `log_cap` says."""
    log_N = logp_N - batch.old_N
    return bounded_exp(log_N if settings.log_cap is None else log_N.clamp(max=settings.log_cap))


def _turn_level(settings: Ratio, logp_N, batch: Batch):
    """ρ = exp(mean over the turn's tokens of log π − log π_old), the mean capped where `log_cap` says (ReMA)."""
    mean_N = _mean_by(logp_N - batch.old_N, batch.turn_N, "turn_N", settings)
    return bounded_exp(mean_N if settings.log_cap is None else mean_N.clamp(max=settings.log_cap))


def _sequence_level(settings: Ratio, logp_N, batch: Batch):
    """ρ = exp(mean over the row's own tokens) (GSPO, arXiv 2507.18071)."""
    return bounded_exp(_mean_by(logp_N - batch.old_N, batch.row_N, "row_N", settings))


def _action_level(settings: Ratio, logp_N, batch: Batch):
    """ρ = Π over the turn's tokens (MARFT's agent level)."""
    return bounded_exp(_sum_by(logp_N - batch.old_N, batch.turn_N, "turn_N", settings)[0])


def _mean_by(value_N: torch.Tensor, id_N, name: str, settings: Ratio) -> torch.Tensor:
    sum_N, count_N = _sum_by(value_N, id_N, name, settings)
    return sum_N / count_N


def _sum_by(value_N: torch.Tensor, id_N, name: str, settings: Ratio | OffPolicy) -> tuple[torch.Tensor, torch.Tensor]:
    """The sum over the tokens of the same id, and their number, for each token."""
    if id_N is None:
        raise ValueError(f"{settings.kind} works above the token, but policy_loss was given no {name}")
    _, place_N, count_K = torch.as_tensor(id_N, device=value_N.device).unique(return_inverse=True, return_counts=True)
    sum_K = torch.zeros(len(count_K), dtype=value_N.dtype, device=value_N.device).index_add(0, place_N, value_N)
    return sum_K[place_N], count_K[place_N].to(value_N.dtype)


def _no_ratio(settings: Ratio, logp_N, batch: Batch):
    return torch.ones_like(logp_N)


LEVELS = {
    "none": _no_ratio,
    "token": _token_level,
    "turn": _turn_level,
    "sequence": _sequence_level,
    "action": _action_level,
}


# L: clipping. (settings, ratio, batch) -> (loss of each token, whether its gradient is clipped away).


def surrogate(settings: Ratio, logp_N: torch.Tensor, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """The policy term of each token, and 1 where clipping took its gradient away."""
    if settings.kind == "none":
        return _reinforce(settings, logp_N, batch)
    ratio_N = LEVELS[settings.kind](settings, logp_N, batch)
    own_N, clipped_N = (_clipped if settings.clip else _unbounded)(settings, ratio_N, batch)
    if batch.foreign_N is None or not (settings.stepwise or settings.foreign_power):
        return own_N, clipped_N
    foreign_N, dropped_N = _foreign(settings, ratio_N, batch)
    return torch.where(batch.foreign_N, foreign_N, own_N), torch.where(batch.foreign_N, dropped_N, clipped_N)


def _reinforce(settings: Ratio, logp_N, batch: Batch):
    """−A log π: the score-function gradient, no ratio."""
    return -batch.advantage_N * logp_N, torch.zeros_like(batch.old_N)


def _unbounded(settings: Ratio, ratio_N, batch: Batch):
    """−ρA."""
    return -batch.advantage_N * ratio_N, torch.zeros_like(batch.old_N)


def _clipped(settings: Ratio, ratio_N, batch: Batch):
    """−min(ρA, clip(ρ, 1 − low, 1 + high)A) (arXiv 1707.06347 eq. 7); `dual`: at most −cA where A < 0
    (1912.09729)."""
    bounded_N = ratio_N.clamp(1 - settings.clip_low, 1 + settings.clip_high)
    plain_N, clipped_N = ratio_N * batch.advantage_N, bounded_N * batch.advantage_N
    lost_N = clipped_N < plain_N
    gain_N = torch.minimum(plain_N, clipped_N)
    if settings.dual is not None:
        floor_N = torch.where(
            batch.advantage_N < 0, settings.dual * batch.advantage_N, torch.full_like(gain_N, -math.inf)
        )
        lost_N = lost_N | (floor_N > gain_N)
        gain_N = torch.maximum(gain_N, floor_N)
    return -gain_N, lost_N.to(batch.old_N.dtype)


def _foreign(settings: Ratio, ratio_N, batch: Batch):
    """−s̃A for rows that another agent sampled: s̃ = s·sg[s]^α below 1, at most 1; with `stepwise`, rows below
    1 − delta + minibatch · delta_step are dropped (HACPO, arXiv 2603.02604)."""
    damped_N = torch.where(ratio_N < 1, ratio_N * ratio_N.detach().pow(settings.foreign_power), ratio_N)
    bounded_N = damped_N.clamp(max=1.0)
    lost_N = ratio_N > 1
    if settings.stepwise:
        dropped_N = ratio_N < min(1.0, 1 - settings.delta + batch.minibatch * settings.delta_step)
        bounded_N, lost_N = torch.where(dropped_N, torch.zeros_like(bounded_N), bounded_N), lost_N | dropped_N
    return -batch.advantage_N * bounded_N, lost_N.to(batch.old_N.dtype)


# Off-policy correction by r = π_old / μ. (settings, batch) -> a weight per token, without gradient.


def _uncorrected(settings: OffPolicy, batch: Batch):
    """1."""
    return torch.ones_like(batch.old_N)


def _truncate(settings: OffPolicy, batch: Batch):
    """min(r, cap): truncated importance sampling, a token at a time (as in arXiv 2511.19405's code)."""
    return bounded_exp(batch.old_N - batch.engine_N).clamp(max=settings.cap)


def _interval(settings: OffPolicy, batch: Batch):
    """r where low ≤ r ≤ high, else 0 (IcePop)."""
    ratio_N = bounded_exp(batch.old_N - batch.engine_N)
    return torch.where((ratio_N >= settings.low) & (ratio_N <= settings.high), ratio_N, torch.zeros_like(ratio_N))


def _geometric(settings: OffPolicy, batch: Batch):
    """1 for rows whose geometric mean of r over their tokens lies in [low, high], else 0."""
    sum_N, count_N = _sum_by(batch.old_N - batch.engine_N, batch.row_N, "row_N", settings)
    mean_N = bounded_exp(sum_N / count_N)
    return ((mean_N >= settings.low) & (mean_N <= settings.high)).to(batch.old_N.dtype)


OFF_POLICY = {"none": _uncorrected, "truncate": _truncate, "interval": _interval, "geometric": _geometric}


def clipping_bias(algorithm: Algorithm, logp_N: torch.Tensor, weight_N: torch.Tensor, batch: Batch) -> torch.Tensor:
    """A scalar whose gradient is ST-PPO's clipping bias C = Σ_{n clipped} weight · ratio · A · ∇ log π (2511.20718)."""
    ratio_N = LEVELS[algorithm.ratio.kind](algorithm.ratio, logp_N, batch)
    _, clipped_N = surrogate(algorithm.ratio, logp_N, batch)
    return (weight_N.detach() * clipped_N * ratio_N.detach() * batch.advantage_N * logp_N).sum()


def correct_clipping(gradient: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """The policy gradient over the norm of the clipping bias, where that exceeds 1: quiet batches stay as they are.

    The paper's exact normaliser could not be verified; this is our reading of "normalised
    by ‖C‖" where clipping triggers it.
    """
    return gradient / bias.norm().clamp(min=1.0)
