"""Whether a final answer is near enough to the true number."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import TYPE_CHECKING

from marft.answers import number
from marft.rewards.grading import said, text_reward, truth

if TYPE_CHECKING:
    from marft.episode import Episode, Turn

_NUMBERS = re.compile(r"[+-]?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,40})(?:\.[0-9]{0,40})?(?:/[0-9]{1,40})?%?")
TAIL = 1000
"""Characters at the end of a text in which an unmarked number is looked for."""


@text_reward
def numeric_match(
    turn: Turn,
    episode: Episode,
    answer: str = "answer",
    relative: float = 0.0,
    absolute: float = 1e-9,
    marked: bool = True,
) -> float:
    """1 where |said - true| <= max(absolute, relative * |true|), else 0; what is no number is never near one.

    answer: where the facts or columns hold the true number. marked: only a number between `<answer>` marks or in
    `\\boxed{}` counts; otherwise, in a text without a mark, the last number.
    """
    right = truth(episode, answer)
    true = number(right)
    if true is None:
        raise ValueError(f"numeric_match: the true answer {right!r:.80} is no number; use exact_match or math_verify")
    given = said(turn)
    if given is None and not marked:
        found = _NUMBERS.findall(turn.text[-TAIL:])
        given = found[-1] if found else None
    value = None if given is None else number(given)
    if value is None:
        return 0.0
    return float(abs(value - true) <= max(Fraction(absolute), Fraction(relative) * abs(true)))
