"""Two texts on one subject, a short one and a longer one: MAGRPO's rewards for TLDR (arXiv 2508.04652).

Four levels, each only looked at where the one before it was reached. The numbers are those of the authors' code
(github OpenMLRL/LLM_Collab_Writing, `tldr_rewards.py`); the lists of words are our own and shorter, and a connective
counts as a whole word, where theirs finds "so" in "some".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from marft.rewards.similarity import words

if TYPE_CHECKING:
    from marft.episode import Episode

Level = Literal["structure", "ratio", "vocabulary", "style"]
STRUCTURE, VOCABULARY = 0.5, 0.5
"""What the first and the third level are worth at most; the others are worth 1."""
RATIO = (1.1, 1.6, 3.2, 5.0)
"""Length of the longer text over the shorter one's, in characters: nothing, all, all, nothing, with straight lines."""
RICHER = (1.3, 2.0)
"""Different words of the longer text over those of the shorter one: nothing below the first, all from the second on."""
OVERLAP = 0.03
"""Jaccard similarity of the words from which more is worth no more."""
FIRST_KIND, FURTHER_KIND = 0.4, 0.05
"""What the first kind of connective is worth, and each further one."""
STYLE = (0.4, 0.6)
"""Parts of connectives and of overlap in the fourth level."""

_COMMON = """
    a an the this that these those it its he she they we you i him her them us me his their our your my
    be is are was were been being am do does did have has had will would can could may might must shall should
    and or but if than then so as not no nor at by for from in into of on to up with out about over under
    all any both each few more most much many other some such only own same too very just also there here
    what which who whom when where why how
"""
COMMON = frozenset(_COMMON.split())
"""Words that are in every text, and count for no overlap."""
CONNECTIVES: dict[str, tuple[str, ...]] = {
    "elaboration": ("furthermore", "moreover", "additionally", "also", "besides", "in addition"),
    "examples": ("for example", "for instance", "such as", "namely", "in particular", "including"),
    "explanation": ("that is", "in other words", "in fact", "more precisely", "put simply"),
    "cause_effect": ("therefore", "thus", "hence", "consequently", "as a result", "so", "because of this"),
    "contrast": ("however", "but", "yet", "on the other hand", "whereas", "instead", "in contrast"),
    "sequence": ("first", "second", "third", "next", "then", "finally", "to begin with"),
    "emphasis": ("indeed", "certainly", "surely", "of course", "clearly", "above all"),
    "summary": ("in short", "in brief", "to sum up", "overall", "in the end", "in conclusion"),
    "comparison": ("similarly", "likewise", "in the same way", "just as", "by comparison"),
    "concession": ("although", "though", "even so", "despite", "in spite of", "nevertheless"),
    "condition": ("if", "unless", "provided that", "as long as", "otherwise", "in case"),
    "time": ("when", "while", "before", "after", "until", "since", "later", "meanwhile"),
}
_KINDS = {kind: re.compile(rf"\b(?:{'|'.join(some)})\b") for kind, some in CONNECTIVES.items()}


class Levels(NamedTuple):
    """What each level brought; those after the first that was missed are 0."""

    structure: float = 0.0
    ratio: float = 0.0
    vocabulary: float = 0.0
    style: float = 0.0


def writing(
    episode: Episode,
    level: Level | Literal["all"] = "all",
    seats: Sequence[str] | None = None,
    least: int = 8,
    most: int = 256,
) -> dict[str, float]:
    """What the last texts of two writers are worth together, 0 to 3; each seat of the episode is paid that.

    level: `structure`, 0.5 where both texts have from `least` to `most` words; `ratio`, up to 1 for a second text
    that is 1.6 to 3.2 times as long; `vocabulary`, up to 0.5 for one with twice as many different words; `style`, up
    to 1 for its kinds of connectives and for words that both texts share; or `all` of it. A level counts only where
    those before it brought something; the ratio opens the next from 1.1 to 5 on. seats: the shorter text's writer and
    the longer one's; default the two that the episode has.
    """
    pair = tuple(episode.seats if seats is None else seats)
    if len(pair) != 2 or not set(pair) <= set(episode.seats):
        raise ValueError(f"writing: options.seats must be two of {', '.join(episode.seats)}, got {list(pair)}")
    last = {turn.seat: turn.text for turn in episode.turns}
    found = levels(*(last.get(seat, "") for seat in pair), least, most)
    return dict.fromkeys(episode.seats, sum(found) if level == "all" else getattr(found, level))


def levels(short: str, long: str, least: int = 8, most: int = 256) -> Levels:
    """The four levels of two texts."""
    if not all(least <= len(text.split()) <= most for text in (short, long)):
        return Levels()
    ratio = len(long) / len(short) if short else 0.0
    if not RATIO[0] <= ratio <= RATIO[3]:
        return Levels(STRUCTURE)
    fits = min(1.0, (ratio - RATIO[0]) / (RATIO[1] - RATIO[0]), (RATIO[3] - ratio) / (RATIO[3] - RATIO[2]))
    few, many = set(words(short)), set(words(long))
    richer = len(many) / len(few) if few else 0.0
    if richer < RICHER[0]:
        return Levels(STRUCTURE, fits)
    rich = VOCABULARY * min(1.0, (richer - RICHER[0]) / (RICHER[1] - RICHER[0]))
    kinds = sum(pattern.search(long.lower()) is not None for pattern in _KINDS.values())
    connected = min(1.0, FIRST_KIND + FURTHER_KIND * (kinds - 1)) if kinds else 0.0
    shared = min(1.0, _overlap(few - COMMON, many - COMMON) / OVERLAP)
    return Levels(STRUCTURE, fits, rich, STYLE[0] * connected + STYLE[1] * shared)


def _overlap(one: set[str], other: set[str]) -> float:
    """Jaccard similarity; two texts of common words only have all in common."""
    return len(one & other) / len(one | other) if one | other else 1.0
