"""Puzzles whose input is split: dealing them, and working them out from as many of the parts as there are.

A part is a text on one line. `PUZZLES` names the kinds; the maze, which is walked and not answered, is in `maze`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

NAMES = ("Ann", "Bob", "Cid", "Dee", "Eve", "Fay", "Gus", "Hal", "Ida", "Jim")
ABOVE = " above "


class Deal(NamedTuple):
    """question: what all are asked. answer: the true one, as text. parts: what each seat alone is told."""

    question: str
    answer: str
    parts: tuple[str, ...]


class Puzzle(NamedTuple):
    """One kind. Options are the game's.

    deal: (generator, seats, options) -> Deal. solve: (all parts) -> the answer, None for what are no parts. working:
    (all parts) -> what is said before the answer. guess: (generator, own part, options) -> (what is said before it, an
    answer that fits the own part). other: (generator, own part, options) -> a part that is not the own one.
    """

    deal: Callable[[random.Random, int, Any], Deal]
    solve: Callable[[Sequence[str]], str | None]
    working: Callable[[Sequence[str]], str]
    guess: Callable[[random.Random, str, Any], tuple[str, str]]
    other: Callable[[random.Random, str, Any], str]


def deal_digits(rng: random.Random, seats: int, options: Any) -> Deal:
    """One digit each, of as many as the option says."""
    numbers = [rng.randrange(options.digits) for _ in range(seats)]
    return Deal("What is the sum of all digits?", str(sum(numbers)), tuple(map(str, numbers)))


def deal_numbers(rng: random.Random, seats: int, options: Any) -> Deal:
    """One number each, of so many digits."""
    numbers = [_number(rng, options.length) for _ in range(seats)]
    return Deal("What is the sum of all numbers?", str(sum(numbers)), tuple(map(str, numbers)))


def add(parts: Sequence[str]) -> str | None:
    if not all(part.isascii() and part.isdigit() for part in parts):
        return None
    return str(sum(int(part) for part in parts))


def terms(parts: Sequence[str]) -> str:
    return f"{' + '.join(parts)} ="


def guess_digits(rng: random.Random, part: str, options: Any) -> tuple[str, str]:
    """As if the others held these."""
    parts = [part, *(str(rng.randrange(options.digits)) for _ in range(options.seats - 1))]
    return terms(parts), str(sum(map(int, parts)))


def guess_numbers(rng: random.Random, part: str, options: Any) -> tuple[str, str]:
    parts = [part, *(str(_number(rng, options.length)) for _ in range(options.seats - 1))]
    return terms(parts), str(sum(map(int, parts)))


def other_digit(rng: random.Random, part: str, options: Any) -> str:
    return str((int(part) + rng.randrange(1, options.digits)) % options.digits)


def other_number(rng: random.Random, part: str, options: Any) -> str:
    number = _number(rng, options.length)
    return str(number if number != int(part) else int(part) - 1)


def _number(rng: random.Random, length: int) -> int:
    return rng.randrange(10 ** (length - 1), 10**length)


def deal_facts(rng: random.Random, seats: int, options: Any) -> Deal:
    """People on a ladder: who stands right above whom, pair by pair, at least one pair a seat. Who is at the top?

    Without one of the pairs, two of the people could be at the top.
    """
    order = rng.sample(NAMES[: options.people], options.people)
    pairs = [f"{high}{ABOVE}{low}" for high, low in zip(order, order[1:], strict=False)]
    rng.shuffle(pairs)
    owners = [*range(seats), *(rng.randrange(seats) for _ in range(len(pairs) - seats))]
    parts = tuple(
        ", ".join(pair for pair, owner in zip(pairs, owners, strict=True) if owner == who) for who in range(seats)
    )
    people = ", ".join(sorted(order))
    return Deal(f"{people} stand on a ladder. Who is at the top?", order[0], parts)


def top(parts: Sequence[str]) -> str | None:
    """Who stands above somebody and below nobody, where that is one person."""
    pairs = _pairs(parts)
    if pairs is None:
        return None
    tops = {high for high, _ in pairs} - {low for _, low in pairs}
    return tops.pop() if len(tops) == 1 else None


def together(parts: Sequence[str]) -> str:
    return "All together:"


def guess_top(rng: random.Random, part: str, options: Any) -> tuple[str, str]:
    low = {low for _, low in _pairs([part]) or ()}
    return "maybe", rng.choice([name for name in NAMES[: options.people] if name not in low])


def turned(rng: random.Random, part: str, options: Any) -> str:
    """The own facts upside down."""
    return ", ".join(f"{low}{ABOVE}{high}" for high, low in _pairs([part]) or ())


def _pairs(parts: Sequence[str]) -> list[tuple[str, str]] | None:
    pairs = [pair.partition(ABOVE) for part in parts for pair in part.split(", ")]
    if not all(high in NAMES and low in NAMES for high, _, low in pairs):
        return None
    return [(high, low) for high, _, low in pairs]


PUZZLES: dict[str, Puzzle] = {
    "digits": Puzzle(deal_digits, add, terms, guess_digits, other_digit),
    "numbers": Puzzle(deal_numbers, add, terms, guess_numbers, other_number),
    "facts": Puzzle(deal_facts, top, together, guess_top, turned),
}
