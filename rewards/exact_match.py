"""Whether a final answer is the true one: word for word, or the same number however it is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from marft.answers import same_answer
from marft.rewards.grading import said, text_reward, truth

if TYPE_CHECKING:
    from marft.episode import Episode, Turn


@text_reward
def exact_match(turn: Turn, episode: Episode, answer: str = "answer", marked: bool = True) -> float:
    """1 for a final answer that is the true one, else 0.

    answer: where the facts or columns hold the true one. marked: only an answer between `<answer>` marks or in
    `\\boxed{}` counts; otherwise a text without a mark is an answer as a whole.
    """
    given = said(turn)
    if given is None and not marked:
        given = turn.text
    return float(same_answer(given, truth(episode, answer)))
