"""B: what is subtracted from the return. Each function gives the advantage, the return minus its baseline.

A decision that has nobody to be compared with, because its group has one member, gets advantage 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from marft.credit import stats
from marft.credit.table import Decisions


def none(return_D: np.ndarray, decisions: Decisions, key: Sequence[str]) -> np.ndarray:
    """The return itself."""
    return return_D


def mean(return_D: np.ndarray, decisions: Decisions, key: Sequence[str]) -> np.ndarray:
    """Minus the mean over all decisions with the same key."""
    return stats.centre(return_D, decisions.key(key))


def loo(return_D: np.ndarray, decisions: Decisions, key: Sequence[str]) -> np.ndarray:
    """Minus the mean over the decisions with the same key in *other* episodes (RLOO, arXiv 2402.14740).

    The members of a group are its episodes. Where the key pools several decisions of one episode, all of them are left
    out: their returns share rewards with this one's, and a baseline that contains its own sample is biased.
    """
    group = decisions.key(key)
    mine = decisions.key(("episode", *(name for name in key if name not in ("instance", "game"))))
    shifted_D = stats.shift(return_D, group)
    others_D = stats.count(group) - stats.count(mine)
    sum_D = stats.total(shifted_D, group) - stats.total(shifted_D, mine)
    return np.where(others_D > 0, shifted_D - sum_D / np.maximum(others_D, 1), 0.0)


BASELINES = {"none": none, "mean": mean, "loo": loo}
