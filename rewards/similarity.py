"""How much a text has in common with a reference: shared words, or the longest run of words in the same order."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from marft.rewards.grading import fact, said, text_reward
from marft.rewards.information_gain import f1

if TYPE_CHECKING:
    from marft.episode import Episode, Turn

LONGEST = 2000
"""Words of a text that are looked at: the longest common run takes time with the square."""


@text_reward
def similarity(
    turn: Turn,
    episode: Episode,
    reference: str = "answer",
    measure: Literal["rouge_l", "f1", "jaccard"] = "rouge_l",
    part: Literal["text", "answer"] = "text",
) -> float:
    """From 0, nothing in common, to 1, the same words; case and punctuation aside.

    reference: where the facts or columns hold the text to compare with, or several, of which the nearest counts.
    measure: `rouge_l`, F1 of the longest common subsequence of words (Lin 2004, with equal weights); `f1` of the shared
    words, as often as they occur; `jaccard`, shared over all different words. part: the whole text or the final answer.
    """
    text = turn.text if part == "text" else said(turn) or ""
    found = fact(episode, reference)
    wanted = [found] if isinstance(found, str) else found
    if not isinstance(wanted, Sequence) or not wanted or not all(isinstance(one, str) for one in wanted):
        raise ValueError(f"similarity: {reference!r} must be a text or several, not {found!r:.80}")
    return max(MEASURES[measure](text, one) for one in wanted)


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())[:LONGEST]


def rouge_l(text: str, reference: str) -> float:
    """F1 of the longest common subsequence of words: 2 LCS / (m + n)."""
    ours, theirs = words(text), words(reference)
    if not ours or not theirs:
        return 0.0
    row = [0] * (len(theirs) + 1)
    for word in ours:
        diagonal = 0
        for place, other in enumerate(theirs, 1):
            kept = row[place]
            row[place] = diagonal + 1 if word == other else max(row[place], row[place - 1])
            diagonal = kept
    return 2 * row[-1] / (len(ours) + len(theirs))


def jaccard(text: str, reference: str) -> float:
    """Shared over all different words."""
    ours, theirs = set(words(text)), set(words(reference))
    return len(ours & theirs) / len(ours | theirs) if ours | theirs else 0.0


MEASURES = {"rouge_l": rouge_l, "f1": f1, "jaccard": jaccard}
