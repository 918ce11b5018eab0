"""The canary: does a server speak with the very adapter it was asked for?

Log-probs of a fixed probe, as a server gives them, against the trainer's. A gap above the limit fails. So does an
answer that lies nearer to something else that is known: the base, the agent's version before, another agent. Between
versions of one small step everything is within any limit, and only that comparison tells them apart. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

LIMITS = {"float64": 1e-3, "float32": 1e-3, "bfloat16": 0.3, "float16": 0.1}
"""Largest |difference| of a token's log-prob by the base's type, where the recipe names none."""

RESOLUTION = {"float64": 2e-6, "float32": 2e-5, "bfloat16": 0.03, "float16": 0.01}
"""Root mean square difference below which two policies cannot be told apart from outside."""


def verdict(
    found: np.ndarray, expected: np.ndarray, others: Mapping[str, np.ndarray], dtype: str, limit: float | None = None
) -> str | None:
    """What is wrong with the server's log-probs, or None. others: name -> what that policy would have said."""
    if found.shape != expected.shape:
        return f"it scored {found.size} tokens of {expected.size}"
    gap = float(np.abs(found - expected).max())
    if not np.isfinite(gap):
        return "its log-probs are not finite"
    limit = LIMITS[dtype] if limit is None else limit
    nearest = min(others, key=lambda name: _distance(found, others[name]), default=None)
    if nearest is not None:
        apart = _distance(expected, others[nearest])
        if apart > RESOLUTION[dtype] and _distance(found, others[nearest]) < _distance(found, expected):
            return f"it answers like {nearest}; the log-prob gap is {gap:.3g}"
    if gap > limit:
        return f"the log-prob gap is {gap:.3g}, above {limit:g} (engine.canary)"
    return None


def _distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.sqrt(np.mean((one - other) ** 2))) if one.shape == other.shape else np.inf
