"""B: what is subtracted from the return. Each function gives the advantage, the return minus its baseline.

A decision that has nobody to be compared with, because its group has one member, gets advantage 0, unless the setting
`alone` says that it keeps its return.
"""

from __future__ import annotations

import numpy as np

from marft.blocks import Baseline
from marft.credit import memory, stats
from marft.credit.keys import Codes, combine
from marft.credit.table import Decisions
from marft.credit.weights import counts

KEY = "baseline.key"


def none(return_D: np.ndarray, decisions: Decisions, settings: Baseline, state: dict) -> np.ndarray:
    """The return itself."""
    return return_D


def mean(return_D: np.ndarray, decisions: Decisions, settings: Baseline, state: dict) -> np.ndarray:
    """G − mean of G over all decisions with the same key, each weighed by what `over` counts.

    With the kernel `capability`, G_u − (1/n) Σ_v ω(k_u, k_v) G_v over the group's agents, where ω is the ratio of their
    recent mean returns (HACPO, 2603.02604).
    """
    key = decisions.key(settings.key, KEY)
    if settings.kernel == "capability":
        return _pooled(return_D, decisions, key, memory.capability(state, decisions))
    weight_D = counts(return_D, decisions, key, settings.over)
    centred_D = stats.centre(return_D, key, weight_D)
    return _keep_lone(centred_D, return_D, key, decisions, settings)


def loo(return_D: np.ndarray, decisions: Decisions, settings: Baseline, state: dict) -> np.ndarray:
    """G − mean of G over the decisions with the same key in *other* episodes (RLOO, 2402.14740).

    The members of a group are its episodes. Where the key pools several decisions of one episode, all of them are left
    out: their returns share rewards with this one's, and a baseline that contains its own sample is biased.
    """
    group = decisions.key(settings.key, KEY)
    mine = combine([decisions.codes["episode"], group], len(return_D))
    shifted_D = stats.shift(return_D, group)
    weight_D = counts(return_D, decisions, group, settings.over)
    one_D = np.ones(len(return_D)) if weight_D is None else weight_D
    others_D = stats.count(group, weight_D) - stats.count(mine, weight_D)
    weighed_D = one_D * shifted_D
    sum_D = stats.total(weighed_D, group) - stats.total(weighed_D, mine)
    left_D = others_D > 1e-9
    alone_D = return_D if settings.alone == "raw" else np.zeros(len(return_D))
    return np.where(left_D, shifted_D - sum_D / np.where(left_D, others_D, 1.0), alone_D)


def best(return_D: np.ndarray, decisions: Decisions, settings: Baseline, state: dict) -> np.ndarray:
    """G − max of G over the decisions with the same key: never above 0."""
    key = decisions.key(settings.key, KEY)
    top = np.full(key.size, -np.inf)
    counted_D = decisions.count_D > 0
    np.maximum.at(top, key.code[counted_D], return_D[counted_D])
    top_D = top[key.code]
    below_D = np.where(np.isfinite(top_D), return_D - np.where(np.isfinite(top_D), top_D, 0.0), 0.0)
    return _keep_lone(below_D, return_D, key, decisions, settings)


def unique_mean(return_D: np.ndarray, decisions: Decisions, settings: Baseline, state: dict) -> np.ndarray:
    """G − mean over the distinct values of G with the same key (MARSHAL's code, github thu-nics/MARSHAL).

    with_zero: that code takes the distinct values over token positions, masked ones included, so 0 is always among
    them. Values that differ by rounding only (1e-12 of the group's largest) are one value.
    """
    key = decisions.key(settings.key, KEY)
    weight_D = stats.distinct(return_D, key)
    centred_D = stats.centre(return_D, key, weight_D)
    if settings.with_zero:
        size_D = stats.count(key, weight_D)
        zeros_D = stats.total((np.abs(return_D) <= stats.crumbs(return_D, key)).astype(float), key) > 0
        mean_D = return_D - centred_D
        centred_D = np.where(zeros_D, centred_D, return_D - mean_D * size_D / (size_D + 1))
    return _keep_lone(centred_D, return_D, key, decisions, settings)


def ema_per_seat(return_D: np.ndarray, decisions: Decisions, settings: Baseline, state: dict) -> np.ndarray:
    """G − b, then b ← decay·b + (1 − decay)·R, one b per game and seat, from 0 (SPIRAL, 2506.24119).

    R is the seat's return at its first decision of the episode. Episodes follow each other in the order of their ids.
    update_first: b moves before it is subtracted (UnstableBaselines' code). `state["ema"]` holds b between calls.
    """
    return return_D - memory.running_mean(state, return_D, decisions, settings.decay, settings.update_first)


def critic(return_D: np.ndarray, decisions: Decisions, settings: Baseline, state: dict) -> np.ndarray:
    """G − V; the returns of kind `gae` have it inside already."""
    return return_D - decisions.numbers("value", "baseline critic")


def _keep_lone(advantage_D, return_D, key: Codes, decisions: Decisions, settings: Baseline) -> np.ndarray:
    if settings.alone == "zero":
        return advantage_D
    return np.where(stats.count(key, decisions.count_D) == 1, return_D, advantage_D)


def _pooled(return_D: np.ndarray, decisions: Decisions, key: Codes, omega_AA: np.ndarray) -> np.ndarray:
    """G_u − (1/n) Σ_v ω(a_u, a_v) G_v, by the sums of each agent in each group."""
    agent = decisions.codes["agent"]
    place_D = key.code * agent.size + agent.code
    sum_GA = np.bincount(place_D, decisions.count_D * return_D, key.size * agent.size).reshape(key.size, agent.size)
    size_D = stats.count(key, decisions.count_D)
    mean_D = (sum_GA @ omega_AA.T).reshape(-1)[place_D] / np.where(size_D > 0, size_D, 1.0)
    return np.where(size_D > 1, return_D - mean_D, 0.0)


BASELINES = {
    "none": none,
    "mean": mean,
    "loo": loo,
    "max": best,
    "unique_mean": unique_mean,
    "ema_per_seat": ema_per_seat,
    "critic": critic,
}
