"""What a team did and earned at one table, out of its episodes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from marft.episode import Episode
from marft.game import of_a_seat


def table_metrics(game: Any, seats: Sequence[str], rows: Sequence[Episode]) -> dict[str, float]:
    """What the team did and earned in its seats, and what the other seats earned."""
    pooled = {key: value for key, value in game.metrics(rows, seats).items() if not of_a_seat(key, rows[0].seats)}
    returns = [episode.returns() for episode in rows]
    pooled["return"] = sum(r[seat] for r in returns for seat in seats) / (len(rows) * len(seats))
    others = [seat for seat in rows[0].seats if seat not in seats]
    if others:
        pooled["opponent_return"] = sum(r[seat] for r in returns for seat in others) / (len(rows) * len(others))
    return pooled


def averaged(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Each metric on average over tables; NaN where one of them lacks it: a mixture counts only the games drawn."""
    keys = dict.fromkeys(key for one in found for key in one)
    return {key: sum(one.get(key, math.nan) for one in found) / len(found) for key in keys}
