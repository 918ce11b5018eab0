"""Final answers in texts: where one stands, and when two are the same. Bounded work on any text; nothing here raises.

An answer stands between `<answer>` marks or in `\\boxed{}`; of several the last one counts. Two answers are the same
where they are the same number, written one way or another, or else the same words, case and outer marks aside.
"""

from __future__ import annotations

import re
from fractions import Fraction

ANSWER = ("<answer>", "</answer>")
BOX = "\\boxed{"
LIMIT = 2000
"""Characters of an answer beyond which there is none."""
DIGITS = 60
"""Characters of a number beyond which it is compared as text."""

_NUMBER = re.compile(r"([+-]?)([0-9]*)(?:\.([0-9]*))?(?:\s*/\s*([0-9]+))?(%?)")
_GROUPED = re.compile(r"[+-]?[0-9]{1,3}(,[0-9]{3})+(\.[0-9]+)?%?")
_SPACE = re.compile(r"\s+")


def final_answer(text: str) -> str | None:
    """The last marked answer of a text, without outer spaces; None where there is none, or its mark is not closed."""
    found = [place for place in (_tagged(text), _boxed(text)) if place is not None]
    if not found:
        return None
    _, answer = max(found)
    return answer if answer and len(answer) <= LIMIT else None


def same_answer(said: str | None, true: str | None) -> bool:
    """Whether both are answers, and the same one."""
    if said is None or true is None:
        return False
    return answer_key(said) == answer_key(true)


def answer_key(text: str) -> Fraction | str:
    """What is equal for two answers exactly where they are the same: so answers can be counted."""
    words = plain(text)
    value = number(words)
    return words if value is None else value


def number(text: str) -> Fraction | None:
    """The number that a text is: "1,234", "-3.50", "7/8", "12%", "$5"; None for any other text."""
    text = text.strip().strip("$").strip().removesuffix(".")
    if len(text) > DIGITS or not text.isascii():
        return None
    if _GROUPED.fullmatch(text):
        text = text.replace(",", "")
    found = _NUMBER.fullmatch(text)
    if found is None:
        return None
    sign, whole, part, under, percent = found.groups()
    if not whole and not part:
        return None
    value = Fraction(f"{whole or 0}.{part or 0}") / (100 if percent else 1)
    if under is not None:
        if part is not None or not int(under):
            return None
        value /= int(under)
    return -value if sign == "-" else value


def plain(text: str) -> str:
    """A text as it is compared: lower case, single spaces, no outer dollar signs, quotes or full stop."""
    return _SPACE.sub(" ", text).strip().strip("$\"'").removesuffix(".").strip().lower()


def _tagged(text: str) -> tuple[int, str] | None:
    """(where it ends, what stands there), of the last mark that is closed"""
    begin = text.rfind(ANSWER[0], 0, max(0, text.rfind(ANSWER[1])))
    if begin < 0:
        return None
    begin += len(ANSWER[0])
    stop = text.find(ANSWER[1], begin)
    return stop, text[begin:stop].strip()


def _boxed(text: str) -> tuple[int, str] | None:
    begin = text.rfind(BOX)
    if begin < 0:
        return None
    start, depth = begin + len(BOX), 1
    for place in range(start, min(len(text), start + LIMIT + 1)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if not depth:
            return place, text[start:place].strip()
    return None
