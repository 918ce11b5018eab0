"""Scripted players of a debate: how sure they are of the truth, and to whom they listen.

They may see the true answer, in the view, so that a tiny model can learn from them to answer rightly some of the time.
Most of them know it in six cases of ten, anew for each question.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from marft.answers import same_answer
from marft.game import Player
from marft.games.debate_metrics import majority
from marft.games.dialogue import DialogueView, wrong_guess
from marft.games.text import answer

KNOWN = 0.6
"""How often a player that knows some answers knows this one."""


def _player(choose: Callable[[DialogueView, random.Random], str]) -> Player:
    """A player from a function that chooses an answer. A side that was given one argues for it, whoever it is: by what
    the task's column `says` holds, or else it just says it."""

    def play(view: DialogueView, rng: random.Random) -> str:
        if view.phase == "argue" and view.now["defends"]:
            says = view.now["says"]
            return rng.choice(says) if says else f"It is {view.now['defends'][view.seat]}."
        return answer(choose(view, rng))

    play.__name__ = choose.__name__
    play.__doc__ = choose.__doc__
    return play


def _knows(view: DialogueView, rng: random.Random) -> str:
    if view.truth is not None and rng.random() < KNOWN:
        return view.truth
    return wrong_guess(view, rng)


@_player
def right(view: DialogueView, rng: random.Random) -> str:
    """Always the truth."""
    return view.truth if view.truth is not None else wrong_guess(view, rng)


@_player
def wrong(view: DialogueView, rng: random.Random) -> str:
    """Always an error, and the same one as long as it is not asked for a verdict."""
    return view.own or wrong_guess(view, rng)


@_player
def stubborn(view: DialogueView, rng: random.Random) -> str:
    """Knows it or guesses, and stays with that."""
    return view.own or _knows(view, rng)


@_player
def follower(view: DialogueView, rng: random.Random) -> str:
    """Knows it or guesses, then takes the most frequent answer, its own included; its own among equals."""
    found = majority([view.own, *view.heard])
    return found or _knows(view, rng)


@_player
def swayed(view: DialogueView, rng: random.Random) -> str:
    """Knows it or guesses, then takes the answer of one of the others."""
    heard = [one for one in view.heard if one is not None]
    return rng.choice(heard) if heard else _knows(view, rng)


@_player
def fickle(view: DialogueView, rng: random.Random) -> str:
    """Knows it or guesses, each time anew."""
    return _knows(view, rng)


@_player
def reader(view: DialogueView, rng: random.Random) -> str:
    """As a judge believes a quote of the true answer by the side that defends it, and else the side it reads first;
    knows it or guesses where it is no judge."""
    defends = view.now["defends"]
    if view.phase != "judge" or not defends:
        return view.own or _knows(view, rng)
    (true,) = (seat for seat, own in defends.items() if same_answer(own, view.truth))
    proven = any(defends[true] in quote for quote in view.now["quoted"].get(true, ()))
    return defends[true] if proven else str(view.heard[0])


@_player
def erratic(view: DialogueView, rng: random.Random) -> str:
    """Any answer that questions of this set have."""
    return rng.choice(view.guesses) if view.guesses else "0"


PLAYERS = {
    "right": right,
    "wrong": wrong,
    "stubborn": stubborn,
    "follower": follower,
    "swayed": swayed,
    "fickle": fickle,
    "reader": reader,
    "random": erratic,
}
