"""Reading answers and writing amounts, for all games: bounded work on any text, whatever its size.

Nothing here raises on a text, and no pattern can backtrack: marks are found by plain search, and a pattern is tried on
a few characters only. Numbers are written with the digits 0-9; other scripts' digits, exponents, "nan" and "inf" are
unreadable.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

ANSWER = ("<answer>", "</answer>")
INNER_LIMIT = 400
"""Characters between two marks beyond which an answer counts as unreadable."""
PROPOSAL = "Proposal:"

_WHOLE = re.compile(r"[+-]?[0-9]{1,12}")
_DECIMAL = re.compile(r"[+-]?[0-9]{1,12}(\.[0-9]{1,12})?")
_TRIMMED = 4000


def quotable(text: str, limit: int) -> str:
    """What of a message is shown to other seats: `limit` characters, one line, nothing that ends the quotes."""
    text = text.strip()[:limit].replace('"', "'")
    return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)


def between(text: str, marks: tuple[str, str] = ANSWER, limit: int = INNER_LIMIT) -> str | None:
    """What stands in the last closed pair of marks, without outer spaces; None where there is none or it is too long.

    Of nested pairs the inner start and the outer end are taken, so that what is between is no sensible answer.
    """
    stop = text.rfind(marks[1])
    begin = text.rfind(marks[0], 0, stop) if stop > 0 else -1
    if begin < 0 or stop - begin - len(marks[0]) > limit + _TRIMMED:
        return None
    inner = text[begin + len(marks[0]) : stop].strip()
    return inner if len(inner) <= limit else None


def before(text: str, marks: tuple[str, str] = ANSWER) -> str:
    """What stands before the last closed pair of marks; all of the text where there is none."""
    stop = text.rfind(marks[1])
    begin = text.rfind(marks[0], 0, stop) if stop > 0 else -1
    return text if begin < 0 else text[:begin]


def whole(text: str | None, least: int, most: int) -> int | None:
    """The whole number that `text` is, if it lies in [least, most]."""
    if text is None or len(text) > 13 or not _WHOLE.fullmatch(text):
        return None
    number = int(text)
    return number if least <= number <= most else None


def decimal(text: str | None, least: float, most: float) -> float | None:
    """The number, with or without decimals, that `text` is, if it lies in [least, most]; an int where it is whole."""
    if text is None or len(text) > 26 or not _DECIMAL.fullmatch(text):
        return None
    number = float(text)
    if not least <= number <= most:
        return None
    return int(number) if number.is_integer() else number


def items_reader(items: Sequence[str]) -> Callable[[str, Sequence[int]], tuple[int, ...] | None]:
    """A reader of "Proposal: 2 hats, 0 books, 1 balls" for these items (in the singular), in this order.

    The reader takes a text and the most of each item. It reads the last proposal of the text, and gives None where
    that is not written so or asks for more than there is.
    """
    parts = r",? {0,3}".join(rf"([0-9]{{1,4}}) {{0,3}}{re.escape(item)}s?" for item in items)
    pattern = re.compile(rf"{PROPOSAL} {{0,3}}{parts}(?![0-9A-Za-z])")

    def read(text: str, most: Sequence[int]) -> tuple[int, ...] | None:
        at = text.rfind(PROPOSAL)
        found = pattern.match(text[at : at + INNER_LIMIT]) if at >= 0 else None
        if found is None:
            return None
        numbers = tuple(int(number) for number in found.groups())
        return numbers if all(number <= top for number, top in zip(numbers, most, strict=True)) else None

    return read


def items_text(items: Sequence[str], numbers: Sequence[int]) -> str:
    """ "2 hats, 0 books, 1 balls": as proposals are written."""
    return ", ".join(f"{number} {item}s" for item, number in zip(items, numbers, strict=True))


def answer(move: object) -> str:
    """A move between the marks."""
    return f"{ANSWER[0]}{move}{ANSWER[1]}"


def plain(number: float) -> str:
    """A number as short as it can be written exactly."""
    return str(int(number)) if number == int(number) else repr(number)


def amount(number: float) -> str:
    """A number with at most two decimals, and none where they are zero."""
    text = f"{number:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def count(number: int, thing: str) -> str:
    """ "1 round", "10 rounds"."""
    return f"{number} {thing}{'s' * (number != 1)}"
