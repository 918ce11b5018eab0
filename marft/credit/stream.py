"""What an attribution makes of a table, and a return reads: rewards in the order in which they come in."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Stream(NamedTuple):
    """Rewards in order of (segment, clock), one row per step, and the row at which each decision stands.

    team: a row is a step of the episode and not a decision of a seat.
    """

    reward_V: np.ndarray
    segment_V: np.ndarray
    clock_V: np.ndarray
    row_D: np.ndarray | slice
    team: bool = False
