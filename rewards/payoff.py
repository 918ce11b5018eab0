"""The game's own payoffs, step by step: what the rules say a seat earned."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from marft.episode import Episode


def payoff(episode: Episode, scale: float = 1.0) -> dict[str, list[float]]:
    """Each seat's payoff at each step, times `scale`."""
    return {seat: [scale * step.get(seat, 0.0) for step in episode.rewards] for seat in episode.seats}
