"""Who the tiny model of ReMA learns from: planners who may be wrong about what to do, reasoners who do as told."""

from __future__ import annotations

import random

from marft.games.dialogue import DialogueView
from marft.games.text import answer

PLANS = {"Take the largest.": max, "Take the smallest.": min, "Take the first.": lambda numbers: numbers[0]}
WORDS = {"most": "Take the largest.", "least": "Take the smallest.", "earliest": "Take the first."}
CONFUSED = {"most": "Take the first.", "least": "Take the largest.", "earliest": "Take the smallest."}
"""What a planner says who does not know. A word each: were any wrong plan as likely as another, the base would tell the
words apart so little that no adapter could."""
KNOWN = 0.5
"""How often a planner knows what to do."""


def obedient(view: DialogueView, rng: random.Random) -> str:
    """As planner it knows the plan or confuses two; as reasoner it does what the plan says, right or wrong."""
    if view.phase == "say":
        return _plan(view, rng)
    plan = view.now["texts"][-1]
    numbers = _numbers(view)
    return answer(str(PLANS[plan](numbers) if plan in PLANS else rng.choice(numbers)))


def careless(view: DialogueView, rng: random.Random) -> str:
    """The same, but as reasoner it takes any of the three numbers one time in three."""
    if view.phase != "say" and rng.random() < 1 / 3:
        return answer(str(rng.choice(_numbers(view))))
    return obedient(view, rng)


def _plan(view: DialogueView, rng: random.Random) -> str:
    word = view.question.split()[0]
    return WORDS[word] if rng.random() < KNOWN else CONFUSED[word]


def _numbers(view: DialogueView) -> list[int]:
    """The numbers of a question such as "most of 3, 8, 1"."""
    return [int(number) for number in view.question.partition(" of ")[2].split(", ")]
