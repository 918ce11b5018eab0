"""The policy loss: ratio level × clipping × off-policy correction × KL × entropy × aggregation.

Pure functions of tensors over the trained tokens of one agent, already gathered (suffix `_N`: completion tokens only,
no padding, so a mask never enters a mean). Weights are computed once for an agent's whole batch, all micro-batches and
all processes, and sum to 1; the batch's loss is then exactly the sum of its micro-batches' losses, in any split.
Each kind of a block is one function and one row of the table behind it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from marft.blocks import Aggregate, Algorithm, OffPolicy, Ratio

# exp(40) still is a finite float32; two policies further apart than this on a sampled token are a defect elsewhere.
LOG_RATIO_LIMIT = 40.0


class Totals(NamedTuple):
    """How many tokens, rows and turns an agent's whole batch trains on. Counts of processes add up."""

    tokens: int
    rows: int
    turns: int


def count_totals(row_N, turn_N) -> Totals:
    """Totals of these tokens. `row_N`, `turn_N`: integer ids of each token's row and turn, unique in the batch."""
    row_N, turn_N = torch.as_tensor(row_N), torch.as_tensor(turn_N)
    return Totals(row_N.numel(), row_N.unique().numel(), turn_N.unique().numel())


def token_weights(
    aggregate: Aggregate, row_N, turn_N, totals: Totals | None = None, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """The weight of each token's loss in the batch's loss, (N,).

    row_N, turn_N: integer ids as for `count_totals`. totals: of all processes, where this one holds only a part (whole
    rows, so whole turns); by default of the tokens given. Over all tokens of the batch the weights sum to 1.
    """
    row_N, turn_N = torch.as_tensor(row_N), torch.as_tensor(turn_N)
    totals = totals if totals is not None else count_totals(row_N, turn_N)
    return WEIGHTS[aggregate.kind](row_N, turn_N, totals).to(dtype)


def policy_loss(
    algorithm: Algorithm,
    logp_N: torch.Tensor,
    old_N: torch.Tensor | None,
    engine_N: torch.Tensor,
    ref_N: torch.Tensor | None,
    advantage_N: torch.Tensor,
    weight_N: torch.Tensor,
    entropy_N: torch.Tensor | None = None,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The loss of some tokens of one agent, a scalar, and what to report about them.

        Σ_n weight_n · ( tis_n · (surrogate_n + coef · KL_n) − entropy · H_n )

    logp_N: log-probability under the current policy, carries the gradient. old_N: the same at the start of the update;
    None for the current policy, and not read where the ratio is `none`. engine_N: under the distribution that sampled.
    ref_N: under the anchor of the KL term; None leaves the term out (an error if its coefficient is not 0).
    entropy_N: of the current policy at each token, with gradient; None likewise. Nothing else carries a gradient.

    The report holds detached 0-d tensors. All are sums weighted like the loss, to be added over micro-batches and
    processes, except `gap_max`, whose maximum counts: `policy` (the first term), `kl` and `entropy` (without their
    coefficients), `clip_fraction`, `off_policy_weight`, `gap` (mean |logp − engine|).
    """
    if algorithm.ratio.kind == "none" or old_N is None:
        old_N = logp_N
    old_N, engine_N, advantage_N, weight_N = old_N.detach(), engine_N.detach(), advantage_N.detach(), weight_N.detach()
    tis_N = OFF_POLICY[algorithm.off_policy.kind](algorithm.off_policy, old_N, engine_N)
    surrogate_N, clipped_N = RATIOS[algorithm.ratio.kind](algorithm.ratio, logp_N, old_N, advantage_N)
    gap_N = (logp_N.detach() - engine_N).abs()
    loss = (weight_N * tis_N * surrogate_N).sum()
    report = {
        "policy": loss.detach(),
        "clip_fraction": (weight_N * clipped_N).sum(),
        "off_policy_weight": (weight_N * tis_N).sum(),
        "gap": (weight_N * gap_N).sum(),
        "gap_max": gap_N.max() if gap_N.numel() else gap_N.sum(),
    }
    if _wanted("kl", algorithm.kl.coef, ref_N):
        kl = (weight_N * tis_N * KLS[algorithm.kl.kind](ref_N.detach() - logp_N)).sum()
        loss = loss + algorithm.kl.coef * kl if algorithm.kl.coef else loss
        report["kl"] = kl.detach()
    if _wanted("entropy", algorithm.entropy, entropy_N):
        entropy = (weight_N * entropy_N).sum()
        loss = loss - algorithm.entropy * entropy if algorithm.entropy else loss
        report["entropy"] = entropy.detach()
    return loss, report


def _wanted(name: str, coefficient: float, tensor: torch.Tensor | None) -> bool:
    if coefficient and tensor is None:
        raise ValueError(f"the {name} coefficient is {coefficient}, but policy_loss was given no tensor for it")
    return tensor is not None


def _exp(log_ratio_N: torch.Tensor) -> torch.Tensor:
    return log_ratio_N.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT).exp()


# L: ratio level. (settings, logp, old, advantage) -> (loss of each token, whether its gradient is clipped away).


def _reinforce(settings: Ratio, logp_N, old_N, advantage_N):
    """−A log π: the score-function gradient, no ratio."""
    return -advantage_N * logp_N, torch.zeros_like(old_N)


def _token_ratio(settings: Ratio, logp_N, old_N, advantage_N):
    """PPO's clipped surrogate with a ratio per token (arXiv 1707.06347 eq. 7); separate low and high clips."""
    ratio_N = _exp(logp_N - old_N)
    bounded_N = ratio_N.clamp(1 - settings.clip_low, 1 + settings.clip_high)
    plain_N, clipped_N = ratio_N * advantage_N, bounded_N * advantage_N
    return -torch.minimum(plain_N, clipped_N), (clipped_N < plain_N).to(old_N.dtype)


RATIOS = {"none": _reinforce, "token": _token_ratio}


# Off-policy correction. (settings, old, engine) -> a weight per token, without gradient.


def _uncorrected(settings: OffPolicy, old_N, engine_N):
    return torch.ones_like(old_N)


def _truncate(settings: OffPolicy, old_N, engine_N):
    """min(π_old / μ, cap): truncated importance sampling, a token at a time (as in arXiv 2511.19405's code)."""
    return _exp(old_N - engine_N).clamp(max=settings.cap)


OFF_POLICY = {"none": _uncorrected, "truncate": _truncate}


# K: estimators of KL(π ‖ anchor) from sampled tokens; x = log anchor − log π, with the gradient through log π
# (Schulman, "Approximating KL divergence", 2020). As a loss k1 has no gradient on average: its use is to be reported.


def _k1(x_N: torch.Tensor) -> torch.Tensor:
    return -x_N


def _k2(x_N: torch.Tensor) -> torch.Tensor:
    return 0.5 * x_N.square()


def _k3(x_N: torch.Tensor) -> torch.Tensor:
    x_N = x_N.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)
    return torch.expm1(x_N) - x_N


KLS = {"k1": _k1, "k2": _k2, "k3": _k3}


# L: aggregation. (row, turn, totals) -> a weight per token.


def _token_mean(row_N, turn_N, totals: Totals):
    return torch.full(row_N.shape, 1.0 / max(totals.tokens, 1), dtype=torch.float64, device=row_N.device)


def _row_mean(row_N, turn_N, totals: Totals):
    return 1.0 / (_lengths(row_N) * max(totals.rows, 1))


def _turn_mean(row_N, turn_N, totals: Totals):
    return 1.0 / (_lengths(turn_N) * max(totals.turns, 1))


def _lengths(id_N: torch.Tensor) -> torch.Tensor:
    """How many tokens share each token's id, (N,) float64."""
    _, place_N, length_K = id_N.unique(return_inverse=True, return_counts=True)
    return length_K[place_N].double()


WEIGHTS = {"token_mean": _token_mean, "row_mean": _row_mean, "turn_mean": _turn_mean}
