"""Scripted players of a pipeline: they fit any role, for they know what is asked of it.

They may see the true answer, in the view, so that a tiny model can learn from them to answer rightly some of the time.
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
    """A player from a function that chooses an answer; where none is asked for it says what the role says, or "ok"."""

    def play(view: DialogueView, rng: random.Random) -> str:
        says = view.now["says"]
        if view.phase == "say" and says:
            return rng.choice(says)
        return answer(choose(view, rng)) if view.guesses else "ok"

    play.__name__ = choose.__name__
    play.__doc__ = choose.__doc__
    return play


def _knows(view: DialogueView, rng: random.Random) -> str:
    known = view.truth is not None and rng.random() < KNOWN
    return str(view.truth) if known else wrong_guess(view, rng)


@_player
def right(view: DialogueView, rng: random.Random) -> str:
    """Always the truth."""
    return view.truth if view.truth is not None else wrong_guess(view, rng)


@_player
def shaky(view: DialogueView, rng: random.Random) -> str:
    """The truth in six cases of ten, whatever the others say."""
    return _knows(view, rng)


@_player
def copier(view: DialogueView, rng: random.Random) -> str:
    """The last answer it has heard; without one as `shaky`."""
    heard = [one for one in view.heard if one is not None]
    return heard[-1] if heard else _knows(view, rng)


def checker(view: DialogueView, rng: random.Random) -> str:
    """Ends a loop when the last answer it has heard is right, and says "no" else; elsewhere as `shaky`."""
    until = view.now["until"]
    if until is None or until.startswith("/") or not view.heard:
        return shaky(view, rng)
    return until if same_answer(view.heard[-1], view.truth) else "no"


def delegator(view: DialogueView, rng: random.Random) -> str:
    """Hands the question out, several times over, and takes the most frequent answer; elsewhere as `shaky`."""
    if view.phase == "call" and not view.heard:
        return "".join(f"<call>{view.question}</call>" for _ in range(rng.randint(1, view.now["calls"])))
    found = majority(view.heard)
    return answer(found) if found and view.phase != "say" else shaky(view, rng)


def peer(view: DialogueView, rng: random.Random) -> str:
    """Says what it heard, what it thinks right, and of three or more things that its role may say, worst first, the
    last where the first answer it heard is that, the first where a later one is, else one between; else as `shaky`.
    """
    says = view.now["says"]
    if view.phase != "say" or len(says) < 3 or not view.heard:
        return shaky(view, rng)
    own = _knows(view, rng)
    if same_answer(view.heard[0], own):
        verdict = says[-1]
    else:
        verdict = says[0] if any(same_answer(one, own) for one in view.heard[1:]) else rng.choice(says[1:-1])
    return f"{' or '.join(one or 'nothing' for one in view.heard)}? {own}. {verdict}"


@_player
def guess(view: DialogueView, rng: random.Random) -> str:
    """Any answer that questions of this set have."""
    return rng.choice(view.guesses)


def erratic(view: DialogueView, rng: random.Random) -> str:
    """Any answer that questions of this set have; hands something out half of the time."""
    if view.phase == "call" and rng.random() < 0.5:
        return "".join(f"<call>{rng.randrange(10)}?</call>" for _ in range(rng.randint(1, view.now["calls"])))
    return guess(view, rng)


PLAYERS = {
    "right": right,
    "shaky": shaky,
    "copier": copier,
    "checker": checker,
    "delegator": delegator,
    "peer": peer,
    "random": erratic,
}
