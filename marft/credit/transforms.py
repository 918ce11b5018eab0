"""T: what happens to advantages after baseline and alignment: normalisation, further transforms, visitation weight.

Every function takes advantages of decisions that exist and gives as many back; statistics run over these alone.
"""

from __future__ import annotations

import numpy as np

from marft.blocks import Normalise, Transform
from marft.credit import memory, stats
from marft.credit.keys import Codes
from marft.credit.table import Decisions
from marft.credit.weights import counts


def none(advantage_D: np.ndarray, decisions: Decisions, settings: Normalise, return_D: np.ndarray) -> np.ndarray:
    """A as it is."""
    return advantage_D


def std(advantage_D: np.ndarray, decisions: Decisions, settings: Normalise, return_D: np.ndarray) -> np.ndarray:
    """A / (σ + eps), σ over the same key."""
    key = decisions.key(settings.key, "normalise.key")
    value_D = advantage_D if settings.of == "advantage" else return_D
    weight_D = _weights(value_D, decisions, settings, key)
    deviation_D = stats.deviation(value_D, key, settings.unbiased, weight_D)
    if settings.alone == "raw":
        deviation_D = np.where(stats.count(key, weight_D) == 1, 1.0, deviation_D)
    return stats.standardise(advantage_D, deviation_D, settings.eps, settings.eps_place)


def whiten(advantage_D: np.ndarray, decisions: Decisions, settings: Normalise, return_D: np.ndarray) -> np.ndarray:
    """(A − mean) / (σ + eps), both over all decisions of the batch."""
    batch = decisions.key(())
    weight_D = _weights(advantage_D, decisions, settings, batch)
    deviation_D = stats.deviation(advantage_D, batch, settings.unbiased, weight_D)
    centred_D = stats.centre(advantage_D, batch, weight_D)
    whitened_D = stats.standardise(centred_D, deviation_D, settings.eps, settings.eps_place)
    return np.where(advantage_D == 0, 0.0, whitened_D) if settings.skip_zeros else whitened_D


def _weights(value_D: np.ndarray, decisions: Decisions, settings: Normalise, key: Codes) -> np.ndarray | None:
    weight_D = counts(value_D, decisions, key, settings.over)
    if not settings.skip_zeros:
        return weight_D
    return np.where(value_D == 0, 0.0, 1.0 if weight_D is None else weight_D)


NORMALISERS = {"none": none, "std": std, "whiten": whiten}


def clamp(advantage_D: np.ndarray, decisions: Decisions, settings: Transform, state: dict) -> np.ndarray:
    """min(max(A, −limit), limit)."""
    return np.clip(advantage_D, -settings.limit, settings.limit)


def nll_gain(advantage_D: np.ndarray, decisions: Decisions, settings: Transform, state: dict) -> np.ndarray:
    """A · exp(−α · z), z the group's z-score of the turn's mean negative log-prob (UMAD, 2603.01221).

    Reads the column `nll`, or `logp` with the opposite sign. z is over the unbiased deviation + 1e-6, a choice. It
    enlarges the negative advantage of confident wrong answers too, as published.
    """
    setting = "transforms nll_gain"
    positive = "nll" in decisions.columns or "logp" not in decisions.columns
    nll_D = decisions.numbers("nll", setting) if positive else -decisions.numbers("logp", setting)
    key = decisions.key(settings.key, setting)
    weight_D = counts(nll_D, decisions, key, "decisions")
    deviation_D = stats.deviation(nll_D, key, True, weight_D)
    z_D = stats.standardise(stats.centre(nll_D, key, weight_D), deviation_D, 1e-6)
    return advantage_D * np.exp(-settings.alpha * z_D)


def capability(advantage_D: np.ndarray, decisions: Decisions, settings: Transform, state: dict) -> np.ndarray:
    """ω(sampler, learner) · A for rows that another agent learns from (HACPO, 2603.02604).

    The column `learner` says who trains on a row; without it everybody trains on its own and nothing changes.
    """
    if "learner" not in decisions.columns:
        return advantage_D
    learner_D = decisions.columns.labels("learner", "transforms capability").astype(str)
    unique, code_D = np.unique(learner_D, return_inverse=True)
    agent = decisions.codes["agent"]
    used, first, agent_D = np.unique(agent.code, return_index=True, return_inverse=True)
    names = memory.agent_names(decisions, first)
    omega = np.array([[memory.capability_ratio(state, name, str(to)) for to in unique] for name in names])
    return advantage_D * omega.reshape(len(used), len(unique))[agent_D, code_D]


def keep(advantage_D: np.ndarray, decisions: Decisions, settings: Transform, state: dict) -> np.ndarray:
    """A; the rows of groups without spread are dropped by `spread_groups` (DAPO's and AT-GRPO's filter)."""
    return advantage_D


def spread_groups(return_D: np.ndarray, decisions: Decisions, settings: Transform) -> np.ndarray:
    """(D,) whether the returns of the decision's group differ."""
    return stats.deviation(return_D, decisions.key(settings.key, "transforms filter"), False) > 0


TRANSFORMS = {"clamp": clamp, "nll_gain": nll_gain, "capability": capability, "filter": keep}


def discount_visits(advantage_D: np.ndarray, decisions: Decisions, gamma: float) -> np.ndarray:
    """Times γ^step: the discounted state-visitation weight that the policy gradient theorem asks for."""
    return advantage_D * np.power(gamma, decisions.clock_D)
