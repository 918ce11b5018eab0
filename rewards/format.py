"""Rewards that only look at the form of a text: unreadable answers, marks, length."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from marft.rewards.grading import said, text_reward

if TYPE_CHECKING:
    from marft.episode import Episode, Turn


def invalid_answer(episode: Episode, value: float = -1.0) -> dict[str, list[float]]:
    """`value` for every turn whose text the game could not read, at that turn's step; 0 elsewhere."""
    paid = {seat: [0.0] * len(episode.rewards) for seat in episode.seats}
    for turn in episode.turns:
        if turn.invalid:
            paid[turn.seat][turn.step] += value
    return paid


@text_reward
def format_marks(
    turn: Turn,
    episode: Episode,
    tags: Sequence[str] = (),
    answer: bool = True,
    pattern: str | None = None,
) -> float:
    """1 for a text in the wanted form, else 0.

    tags: `[think, answer]` wants `<think>…</think><answer>…</answer>`: each opened and closed once, in this order.
    answer: there is a readable final answer. pattern: a regular expression that must be found in the text.
    """
    text, place = turn.text, 0
    for tag in tags:
        for mark in (f"<{tag}>", f"</{tag}>"):
            if text.count(mark) != 1 or (found := text.find(mark, place)) < 0:
                return 0.0
            place = found + len(mark)
    if answer and said(turn) is None:
        return 0.0
    return float(pattern is None or re.search(pattern, text) is not None)


@text_reward
def length(
    turn: Turn,
    episode: Episode,
    most: int | None = None,
    least: int = 0,
    unit: Literal["tokens", "words", "characters"] = "tokens",
    slope: int = 0,
) -> float:
    """0 for a text of `least` to `most` units, down to -1 for one that is shorter or longer by `slope` or more.

    slope: over how many units it falls in a straight line; 0 falls at once. With `most` less by `slope` than an answer
    can have it is DAPO's overlong penalty (2503.14476, eq. 13). Tokens are those that were sampled.
    """
    count = {"tokens": len(turn.completion_ids), "words": len(turn.text.split()), "characters": len(turn.text)}[unit]
    if unit == "tokens" and not turn.completion_ids and turn.text:
        raise ValueError(f"length: {turn.seat}'s text came without tokens; set options.unit: words, or options.seats")
    over = max(least - count, 0 if most is None else count - most, 0)
    return -min(1.0, over / slope) if slope else -float(over > 0)
