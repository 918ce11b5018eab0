"""How often a decision counts in a statistic."""

from __future__ import annotations

import numpy as np

from marft.credit import stats
from marft.credit.keys import Codes
from marft.credit.table import Decisions


def counts(value_D: np.ndarray, decisions: Decisions, key: Codes, over: str) -> np.ndarray | None:
    """(D,) weights: each decision, its completion tokens, or each distinct value of the group once; None is all ones.

    A table without `tokens` counts one token a decision.
    """
    if over == "distinct":
        return stats.distinct(value_D, key)
    weight_D = decisions.count_D
    if over == "tokens" and "tokens" in decisions.columns:
        weight_D = weight_D * decisions.numbers("tokens", "over: tokens")
    return None if np.all(weight_D == 1.0) else weight_D
