"""Scripted players of the matrix games: stateless functions (view, generator) -> text.

Everything a player remembers is in its view, so one function may fill any number of seats and episodes at once.
Asked for a message (cheap talk), every player sends the same harmless one: its choices do not depend on talk.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from marft.game import Player
    from marft.games.matrix import MatrixView

GREETING = "Good luck."


def _player(choose: Callable[[MatrixView, random.Random], int]) -> Player:
    def play(view: MatrixView, rng: random.Random) -> str:
        return GREETING if view.phase == "talk" else view.say[choose(view, rng)]

    play.__name__ = choose.__name__
    play.__doc__ = choose.__doc__
    return play


@_player
def always_first(view: MatrixView, rng: random.Random) -> int:
    """Action 0 always."""
    return 0


@_player
def always_second(view: MatrixView, rng: random.Random) -> int:
    """Action 1 always."""
    return 1


@_player
def tit_for_tat(view: MatrixView, rng: random.Random) -> int:
    """Action 0 first, then what the other did last."""
    return view.other[-1] if view.other else 0


@_player
def grim(view: MatrixView, rng: random.Random) -> int:
    """Action 0 until the other once chose 1, then 1 for good."""
    return int(1 in view.other)


@_player
def win_stay_lose_shift(view: MatrixView, rng: random.Random) -> int:
    """Action 0 first; then the same again after one of its two best payoffs (R or T in the dilemma), else the other."""
    if not view.own:
        return 0
    own, other = view.own[-1], view.other[-1]
    second_best = sorted(pay for row in view.payoffs for pay in row)[-2]
    return own if view.payoffs[own][other] >= second_best else 1 - own


@_player
def uniform(view: MatrixView, rng: random.Random) -> int:
    """Either action with probability one half."""
    return int(rng.random() < 0.5)


@_player
def alternating(view: MatrixView, rng: random.Random) -> int:
    """Action 0 in even rounds, 1 in odd ones."""
    return view.round % 2


PLAYERS: dict[str, Player] = {
    "AllC": always_first,
    "AllD": always_second,
    "TFT": tit_for_tat,
    "Grim": grim,
    "WSLS": win_stay_lose_shift,
    "random": uniform,
    "alternating": alternating,
}
