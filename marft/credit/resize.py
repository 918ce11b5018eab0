"""T: a fixed number of rows per key, by duplicating or dropping at random (M-GRPO, 2511.13288).

A unit is a trajectory: one call of a seat, or its whole episode. Of a key with more units than wanted a random choice
is kept; with fewer, every unit is copied equally often and a random choice once more. Instead of moving rows this
counts copies: statistics and the trainer weigh by them. The draw follows from the seed, the run's progress and the
units' ids alone.
"""

from __future__ import annotations

import numpy as np

from marft.blocks import Resize
from marft.credit.keys import Codes, combine, compact, first_rows
from marft.credit.table import Decisions


def copies(decisions: Decisions, settings: Resize, unit: Codes, progress: float = 0.0) -> np.ndarray:
    """(D,) how many copies of each decision count: 0 dropped, 1 kept, more duplicated. `unit`: its trajectory."""
    n = len(decisions.clock_D)
    if settings.kind == "none" or not n:
        return np.ones(n)
    chosen_D = np.ones(n, bool)
    if settings.role is not None:
        if "role" not in decisions.columns:  # nobody plays the role
            return np.ones(n)
        chosen_D = decisions.columns.labels("role", "resize.role").astype(str) == settings.role
    unit = compact(unit)
    first_P = first_rows(unit)
    key_P = compact(decisions.key(settings.key, "resize.key")).code[first_P]
    count_K = np.bincount(key_P)
    order = np.lexsort((_draw(unit, settings.seed, progress), key_P))
    start_K = np.cumsum(count_K) - count_K
    rank_P = np.empty(unit.size, np.int64)
    rank_P[order] = np.arange(unit.size) - start_K[key_P[order]]
    each_P, rest_P = settings.rows // count_K[key_P], settings.rows % count_K[key_P]
    copies_P = each_P + (rank_P < rest_P)
    return np.where(chosen_D, copies_P[unit.code], 1).astype(np.float64)


def _draw(unit: Codes, seed: int, progress: float) -> np.ndarray:
    """Another draw at each update: else, with equal numbers, the same places would be dropped all through the run."""
    return np.random.default_rng([seed, int(progress * 2**32)]).random(unit.size)


def units(decisions: Decisions, segment_D: np.ndarray | None) -> Codes:
    """The trajectory of each decision: its stream's segment, or (episode, seat) where the stream is the team's."""
    own = decisions.key(("episode", "seat"))
    if segment_D is None or not len(segment_D):
        return own
    return combine([own, Codes(segment_D, int(segment_D.max()) + 1)], len(own.code))
