"""A reward that only looks at the form of an answer: the number of unreadable ones, step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from marft.episode import Episode


def invalid_answer(episode: Episode, value: float = -1.0) -> dict[str, list[float]]:
    """`value` for every turn whose text the game could not read, at that turn's step; 0 elsewhere."""
    paid = {seat: [0.0] * len(episode.rewards) for seat in episode.seats}
    for turn in episode.turns:
        if turn.invalid:
            paid[turn.seat][turn.step] += value
    return paid
