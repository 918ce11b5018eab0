"""Who the tiny model of ReMA learns from: planners who are right or wrong about what to do, reasoners who do as they
are told or think for themselves.
"""

from __future__ import annotations

import random

from marft.games.dialogue import DialogueView, wrong_guess
from marft.games.text import answer

PLANS = {"Take the largest.": max, "Take the smallest.": min, "Take the first.": lambda numbers: numbers[0]}
WORDS = {"most": "Take the largest.", "least": "Take the smallest.", "earliest": "Take the first."}
KNOWN = 0.6
"""How often a planner knows what to do, and a reasoner that thinks for itself the answer."""


def obedient(view: DialogueView, rng: random.Random) -> str:
    """As planner it knows the plan or draws one; as reasoner it does what the plan says, right or wrong."""
    if view.phase == "say":
        return _plan(view, rng)
    (plan,) = view.now["texts"][-1:] or ("",)
    return answer(str(PLANS[plan](_numbers(view)))) if plan in PLANS else headstrong(view, rng)


def careless(view: DialogueView, rng: random.Random) -> str:
    """As reasoner it does what the plan says, but one time in three takes another of the three numbers."""
    said = obedient(view, rng)
    if view.phase == "say" or rng.random() < 2 / 3:
        return said
    return answer(str(rng.choice(_numbers(view))))


def headstrong(view: DialogueView, rng: random.Random) -> str:
    """As reasoner it knows the answer or guesses, whatever the plan says."""
    if view.phase == "say":
        return _plan(view, rng)
    return answer(str(view.truth) if rng.random() < KNOWN else wrong_guess(view, rng))


def _plan(view: DialogueView, rng: random.Random) -> str:
    right = WORDS[view.question.split()[0]]
    return right if rng.random() < KNOWN else rng.choice([plan for plan in PLANS if plan != right])


def _numbers(view: DialogueView) -> list[int]:
    """The numbers of a question such as "most of 3, 8, 1"."""
    return [int(number) for number in view.question.partition(" of ")[2].split(", ")]
