"""G: rewards backed up along a stream."""

from __future__ import annotations

import numpy as np

from marft.credit import scan
from marft.credit.attribution import Stream


def to_go(stream: Stream, gamma: float) -> np.ndarray:
    """(V,) Σ_{k≥t} γ^(k−t) r_k by the step clock: a step at which nothing is recorded still discounts."""
    return scan.to_go(stream.reward_V, stream.segment_V, stream.clock_V, gamma)


def episode(stream: Stream, gamma: float) -> np.ndarray:
    """(V,) the undiscounted sum over the whole stream, the same for all its rows."""
    return np.bincount(stream.segment_V, stream.reward_V)[stream.segment_V]


def turn(stream: Stream, gamma: float) -> np.ndarray:
    """(V,) the step's reward alone."""
    return stream.reward_V


RETURNS = {"to_go": to_go, "episode": episode, "turn": turn}
