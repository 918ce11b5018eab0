"""Discounted running sums along many ragged segments at once.

y_v = x_v + d_v · y_{v-1}, with d_v = 0 where a segment starts. The recurrence is solved by doubling: after pass p each
row holds the sum over the 2^p rows before it, so a batch costs log2(longest segment) passes over flat arrays. Powers
γ^-k never appear, so a horizon of 10,000 steps stays finite.
"""

from __future__ import annotations

import numpy as np


def decay(segment_V: np.ndarray, clock_V: np.ndarray, gamma: float) -> np.ndarray:
    """γ^(clock_v − clock_{v−1}), and 0 on the first row of a segment. Rows are sorted by (segment, clock)."""
    decay_V = np.zeros(len(segment_V))
    same = segment_V[1:] == segment_V[:-1]
    gap = np.where(same, clock_V[1:] - clock_V[:-1], 0)
    decay_V[1:] = np.power(gamma, gap) if np.any(same & (gap != 1)) else gamma
    decay_V[1:] *= same
    return decay_V


def scan(value_V: np.ndarray, decay_V: np.ndarray) -> np.ndarray:
    """y_v = value_v + decay_v · y_{v−1} for all rows, (V,) float64."""
    total, factor = value_V.copy(), decay_V.copy()
    stride, longest = 1, np.diff(np.flatnonzero(decay_V == 0), append=len(decay_V)).max(initial=0)
    while stride < longest:
        total[stride:] += factor[stride:] * total[:-stride]
        factor[stride:] *= factor[:-stride]
        stride *= 2
    return total


def to_go(value_V: np.ndarray, segment_V: np.ndarray, clock_V: np.ndarray, gamma: float) -> np.ndarray:
    """Σ γ^(k−t) value_k over the rows k ≥ t of the same segment: the scan from the segment's end."""
    return scan(value_V[::-1], decay(segment_V[::-1], -clock_V[::-1], gamma))[::-1]
