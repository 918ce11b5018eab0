"""Small mazes: drawing one, the way through it, and copies that each hide a part of it.

A maze is a tuple of rows, each a string of FREE and WALL; a place is (row, column), both from 0. A copy shows HIDDEN
where its owner cannot see. Pure: all chance comes from the generator that is given.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from marft.errors import GameError

FREE, WALL, HIDDEN = "-#?"
STEPS = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}
DRAWS = 10_000
"""Mazes drawn before it is given up that one has a way as long as asked for."""

Rows = tuple[str, ...]
Place = tuple[int, int]


class Maze(NamedTuple):
    """rows: what is where. start, goal: free places. length: moves of the shortest way."""

    rows: Rows
    start: Place
    goal: Place
    length: int


def draw(rng: random.Random, side: int, walls: float, least: int, most: int) -> Maze:
    """A square maze of `side` x `side` places, of which the share `walls` is walls, with a shortest way of `least` to
    `most` moves. GameError where none is found in DRAWS draws.
    """
    places = [(row, column) for row in range(side) for column in range(side)]
    for _ in range(DRAWS):
        blocked = set(rng.sample(places, round(walls * len(places))))
        start = rng.choice([place for place in places if place not in blocked])
        rows = tuple("".join(WALL if (r, c) in blocked else FREE for c in range(side)) for r in range(side))
        far = distances(rows, start)
        goals = [place for place, length in far.items() if least <= length <= most]
        if goals:
            goal = rng.choice(goals)
            return Maze(rows, start, goal, far[goal])
    raise GameError(
        f"no maze of {side} x {side} places with walls {walls:g} and a way of {least} to {most} moves in {DRAWS} "
        "draws: change game.side, game.walls or game.path"
    )


def distances(rows: Sequence[str], start: Place, passable: str = FREE) -> dict[Place, int]:
    """Moves of the shortest way from `start` to every place that can be reached over what is `passable`."""
    far, queue = {start: 0}, deque([start])
    while queue:
        place = queue.popleft()
        for step in STEPS:
            there = after(place, step)
            if there not in far and at(rows, there) in passable:
                far[there] = far[place] + 1
                queue.append(there)
    return far


def after(place: Place, step: str) -> Place:
    """Where a step leads, walls or not."""
    down, right = STEPS[step]
    return place[0] + down, place[1] + right


def at(rows: Sequence[str], place: Place) -> str:
    """What is there; a wall around everything."""
    row, column = place
    return rows[row][column] if 0 <= row < len(rows) and 0 <= column < len(rows[row]) else WALL


def toward(rows: Sequence[str], place: Place, goal: Place) -> str | None:
    """The first move of a shortest way, of several the first in the order of STEPS; None where no way is known.

    What is hidden counts as free only where nothing that is seen leads there.
    """
    for passable in (FREE, FREE + HIDDEN):
        far = distances(rows, goal, passable)
        if far.get(place):
            return min((s for s in STEPS if after(place, s) in far), key=lambda step: far[after(place, step)])
    return None


def copies(rng: random.Random, rows: Rows, number: int) -> tuple[Rows, ...]:
    """So many copies, each place shown in exactly one of them, and as evenly as it goes."""
    side = len(rows)
    owners = [place % number for place in range(side * side)]
    rng.shuffle(owners)
    return tuple(
        tuple("".join(rows[r][c] if owners[r * side + c] == who else HIDDEN for c in range(side)) for r in range(side))
        for who in range(number)
    )


def merged(seen: Sequence[Sequence[str]]) -> Rows:
    """What several copies of one size show together; what none shows stays hidden."""
    return tuple(
        "".join(next((cell for cell in cells if cell != HIDDEN), HIDDEN) for cells in zip(*lines, strict=True))
        for lines in zip(*seen, strict=True)
    )
