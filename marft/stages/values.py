"""What episodes, and the nodes of a tree of samples, are worth. Pure: no model, no file.

A leaf is worth what its episode brought; a node above it the mean over its children (MALT, 2412.01928), however many
leaves lie below each of them. Paths that were not played to their end say nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from marft.episode import Episode, Turn, finished

Place = tuple[int, int, str]
"""A node: its group, its instance, its name there."""


def worth(episode: Episode, seat: str, reward: str = "own", step: int | None = None) -> float:
    """What a seat (or with `reward` "team" all of them) earned in an episode, or at one step of it.

    The reward terms are summed that the run trained on; where none were recorded, as in evaluations, the payoffs.
    """
    seats = episode.seats if reward == "team" else (seat,)
    if episode.terms:
        values = [term.get(one, []) for term in episode.terms.values() for one in seats]
        picked = [value[slice(step, None if step is None else step + 1)] for value in values]
        return math.fsum(value for part in picked for value in part)
    paid = episode.rewards if step is None else episode.rewards[step : step + 1]
    return math.fsum(at.get(one, 0.0) for at in paid for one in seats)


def place_of(episode: Episode, turn: Turn) -> Place | None:
    """The turn's node; None where the rollout did not branch."""
    node = turn.marks.get("node")
    return None if node is None else (episode.group, episode.seed, str(node))


def node_values(episodes: Sequence[Episode], reward: str = "own") -> dict[Place, dict[str, float]]:
    """node -> seat -> value, of all nodes that a finished path leads through."""
    values: dict[Place, dict[str, float]] = {}
    children: dict[Place, dict[Place, None]] = {}
    depth: dict[Place, int] = {}
    for episode in finished(episodes):
        places = (place_of(episode, turn) for turn in episode.turns)
        path = list(dict.fromkeys(place for place in places if place is not None))
        depth |= {place: number for number, place in enumerate(path)}
        for above, below in zip(path, path[1:], strict=False):
            children.setdefault(above, {})[below] = None
        if path:
            values[path[-1]] = {seat: worth(episode, seat, reward) for seat in episode.seats}
    for place in sorted(children, key=depth.__getitem__, reverse=True):
        found = [values[child] for child in children[place]]
        values[place] = {seat: math.fsum(one[seat] for one in found) / len(found) for seat in found[0]}
    return values


def turn_values(episodes: Sequence[Episode], reward: str = "own") -> list[list[float]]:
    """For each episode the value of each of its turns: that of its node for its seat, or without a tree the episode's.

    NaN where nothing is known: at the end of a path that was not played on.
    """
    nodes = node_values(episodes, reward)

    def value(episode: Episode, turn: Turn) -> float:
        place = place_of(episode, turn)
        if place is not None:
            return nodes.get(place, {}).get(turn.seat, math.nan)
        return worth(episode, turn.seat, reward) if episode.status == "done" else math.nan

    return [[value(episode, turn) for turn in episode.turns] for episode in episodes]
