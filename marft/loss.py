"""The policy loss: ratio level × clipping × off-policy correction × KL × entropy × aggregation.

Pure functions of tensors over the trained tokens of one agent, already gathered (suffix `_N`: completion tokens only,
no padding, so a mask never enters a mean). Ratios and clipping stand in `marft.ratios`, the tokens' weights in
`marft.weighting`. Each kind of a block is one function and one row of the table behind it.
"""

from __future__ import annotations

import math

import torch

from marft.blocks import Algorithm, EntropyBand
from marft.ratios import LOG_RATIO_LIMIT, OFF_POLICY, Batch, clipping_bias, correct_clipping, surrogate
from marft.weighting import Totals, count_totals, divisor, token_weights

__all__ = [
    "Batch",
    "Totals",
    "clipping_bias",
    "correct_clipping",
    "count_totals",
    "divisor",
    "entropy_band",
    "epo_weight",
    "policy_loss",
    "token_weights",
]


def policy_loss(
    algorithm: Algorithm,
    logp_N: torch.Tensor,
    old_N: torch.Tensor | None,
    engine_N: torch.Tensor,
    ref_N: torch.Tensor | None,
    advantage_N: torch.Tensor,
    weight_N: torch.Tensor,
    entropy_N: torch.Tensor | None = None,
    *,
    row_N: torch.Tensor | None = None,
    turn_N: torch.Tensor | None = None,
    foreign_N: torch.Tensor | None = None,
    minibatch: int = 0,
    entropy_history: float | None = None,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The loss of some tokens of one agent, a scalar, and what to report about them.

        Σ_n weight_n · ( tis_n · (surrogate_n + coef · KL_n) − entropy · H_n + band_n )

    logp_N: log-probability under the current policy, carries the gradient. old_N: the same at the start of the update;
    None for the current policy; where the ratio is `none` only `approximate_kl` reads it. engine_N: under the
    distribution that sampled. ref_N: under the anchor of the KL term; None leaves the term out (an error if its
    coefficient is not 0, unless the KL stands in the reward). entropy_N: of the current policy at each token, with
    gradient; None likewise. Nothing else carries a gradient. row_N, turn_N: ids as for `token_weights`, for ratios
    above the token; the tokens given must then hold whole rows. foreign_N: true on rows that another agent sampled;
    minibatch: number of this optimizer step, for the stepwise clip. entropy_history: the running mean that the entropy
    band stands around.

    The report holds detached 0-d tensors. All are sums weighted like the loss, to be added over micro-batches and
    processes, except `gap_max`, whose maximum counts: `policy` (the first term), `kl` and `entropy` (without their
    coefficients), `clip_fraction`, `off_policy_weight`, `gap` (mean |logp − engine|) and `approximate_kl`
    (mean old − logp, of rows that are not foreign).
    """
    start_N = (logp_N if old_N is None else old_N).detach()
    old_N = logp_N if algorithm.ratio.kind == "none" else start_N
    old_N, engine_N, advantage_N, weight_N = old_N.detach(), engine_N.detach(), advantage_N.detach(), weight_N.detach()
    batch = Batch(old_N, engine_N, advantage_N, row_N, turn_N, foreign_N, minibatch)
    tis_N = OFF_POLICY[algorithm.off_policy.kind](algorithm.off_policy, batch)
    surrogate_N, clipped_N = surrogate(algorithm.ratio, logp_N, batch)
    gap_N = (logp_N.detach() - engine_N).abs()
    own_N = weight_N if foreign_N is None else torch.where(foreign_N, torch.zeros_like(weight_N), weight_N)
    loss = (weight_N * tis_N * surrogate_N).sum()
    report = {
        "policy": loss.detach(),
        "clip_fraction": (weight_N * clipped_N).sum(),
        "off_policy_weight": (weight_N * tis_N).sum(),
        "gap": (weight_N * gap_N).sum(),
        "gap_max": gap_N.max() if gap_N.numel() else gap_N.sum(),
        "approximate_kl": (own_N * (start_N - logp_N.detach())).sum(),
    }
    coef = algorithm.kl.coef if algorithm.kl.where == "loss" else 0.0
    if _wanted("kl", coef, ref_N):
        kl = (weight_N * tis_N * KLS[algorithm.kl.kind](ref_N.detach() - logp_N)).sum()
        loss = loss + coef * kl if coef else loss
        report["kl"] = kl.detach()
    if _wanted("entropy", algorithm.entropy, entropy_N):
        entropy = (weight_N * entropy_N).sum()
        loss = loss - algorithm.entropy * entropy if algorithm.entropy else loss
        report["entropy"] = entropy.detach()
    if algorithm.entropy_band.kind != "none":
        _wanted("entropy_band", algorithm.entropy_band.coef, entropy_N)
        if entropy_history is None:
            raise ValueError("entropy_band stands around past entropies, but policy_loss was given no entropy_history")
        band = (weight_N * entropy_band(algorithm.entropy_band, entropy_N, entropy_history)).sum()
        loss = loss + band
        report["entropy_band"] = band.detach()
    return loss, report


def entropy_band(settings: EntropyBand, entropy_N: torch.Tensor, history: float) -> torch.Tensor:
    """coef · distance of each entropy from [low · history, high · history] (EPO, arXiv 2509.22576), with gradient.

    The published code makes the penalty of constants, by `where`, so that it moves nothing; the distance does.
    """
    below_N = (settings.low * history - entropy_N).clamp(min=0.0)
    return settings.coef * (below_N + (entropy_N - settings.high * history).clamp(min=0.0))


def epo_weight(progress: float) -> float:
    """EPO's schedule of the band's weight: 1 − .2(1 − e^(−2p)) in the run's first half, .8e^(−3p) in its second.

    p runs from 0 to 1 within each half; which clock p counts is not said, and this is our reading.
    """
    share = 2 * progress if progress < 0.5 else 2 * progress - 1
    return 1 - 0.2 * (1 - math.exp(-2 * share)) if progress < 0.5 else 0.8 * math.exp(-3 * share)


def _wanted(name: str, coefficient: float, tensor: torch.Tensor | None) -> bool:
    if coefficient and tensor is None:
        raise ValueError(f"the {name} coefficient is {coefficient}, but policy_loss was given no tensor for it")
    return tensor is not None


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
