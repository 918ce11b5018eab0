"""Who the tiny model of M-GRPO's team learns from: coordinators who divide a question or ask it whole, workers who know
their sub-task's answer or guess.

All of them read questions of one form, "largest of 3, 8, 1, 5".
"""

from __future__ import annotations

import random

from marft.games.dialogue import DialogueView
from marft.games.text import answer

FORM = "largest of "
KNOWN = 0.6
"""How often a worker knows the answer to its sub-task."""


def diligent(view: DialogueView, rng: random.Random) -> str:
    """As coordinator it hands out all numbers, in one to three parts, and takes the largest answer."""
    if view.now["subtask"] is not None:
        return _work(view, rng)
    if view.phase == "call":
        return _calls(_parts(_numbers(view.question), rng))
    heard = [int(one) for one in view.heard if one is not None and one.isdecimal()]
    return answer(str(max(heard))) if heard else hasty(view, rng)


def forgetful(view: DialogueView, rng: random.Random) -> str:
    """As coordinator it hands out one part of the numbers only, and takes the first answer."""
    if view.now["subtask"] is not None:
        return _work(view, rng)
    if view.phase == "call":
        return _calls([rng.choice(_parts(_numbers(view.question), rng))])
    heard = [one for one in view.heard if one is not None]
    return answer(heard[0]) if heard else hasty(view, rng)


def hasty(view: DialogueView, rng: random.Random) -> str:
    """As coordinator it names one of the numbers itself, without asking anybody."""
    if view.now["subtask"] is not None:
        return _work(view, rng)
    return answer(str(rng.choice(_numbers(view.question))))


def _work(view: DialogueView, rng: random.Random) -> str:
    numbers = _numbers(view.now["subtask"]) or [rng.randrange(10)]
    return answer(str(max(numbers) if rng.random() < KNOWN else rng.randrange(10)))


def _parts(numbers: list[int], rng: random.Random) -> list[list[int]]:
    """The numbers in order, cut in one to three parts."""
    cuts = sorted(rng.sample(range(1, len(numbers)), rng.randint(0, 2)))
    return [numbers[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(numbers)], strict=True)]


def _calls(parts: list[list[int]]) -> str:
    return "".join(f"<call>{FORM}{', '.join(map(str, part))}</call>" for part in parts)


def _numbers(text: str) -> list[int]:
    found = [part.strip() for part in text.removeprefix(FORM).split(",")]
    return [int(part) for part in found if part.isdecimal()]
