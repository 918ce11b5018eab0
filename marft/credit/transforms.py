"""T: what happens to advantages after baseline and alignment: normalisation, and the visitation weight."""

from __future__ import annotations

import numpy as np

from marft.blocks import Normalise
from marft.credit import stats
from marft.credit.table import Decisions


def none(advantage_D: np.ndarray, decisions: Decisions, settings: Normalise) -> np.ndarray:
    return advantage_D


def std(advantage_D: np.ndarray, decisions: Decisions, settings: Normalise) -> np.ndarray:
    """Divided by (standard deviation over the same key + eps)."""
    deviation_D = stats.deviation(advantage_D, decisions.key(settings.key), settings.unbiased)
    return stats.standardise(advantage_D, deviation_D, settings.eps)


def whiten(advantage_D: np.ndarray, decisions: Decisions, settings: Normalise) -> np.ndarray:
    """Minus the mean, over (standard deviation + eps), of all decisions in the batch."""
    batch = decisions.key(())
    deviation_D = stats.deviation(advantage_D, batch, settings.unbiased)
    return stats.standardise(stats.centre(advantage_D, batch), deviation_D, settings.eps)


def discount_visits(advantage_D: np.ndarray, decisions: Decisions, gamma: float) -> np.ndarray:
    """Times γ^step: the discounted state-visitation weight that the policy gradient theorem asks for."""
    return advantage_D * np.power(gamma, decisions.clock_D)


NORMALISERS = {"none": none, "std": std, "whiten": whiten}
