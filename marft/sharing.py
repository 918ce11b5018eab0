"""Rows that begin alike: in a pack, what several rows have in common at their beginning stands and is computed once.

Samples of one prompt share the prompt, branches of a tree all turns before they part, plays of one game its rules. A
causal model's state at a token depends on nothing but the tokens before it, so a row may take the keys and values of
its first tokens from another row that begins the same way. Pure data: no model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from marft.batches import Sequenced

WORTH = 16
"""Tokens in common below which a row stands for itself: to look them up elsewhere costs something, too."""
SHARE = 0.1
"""Likewise, as a share of the row."""


class Piece(NamedTuple):
    """A row in a pack. row: its number. place_L: where in the pack each of its ids stands. known: how many of the first
    ones belong to rows before it; the others are its own, and stand one after the other."""

    row: int
    place_L: np.ndarray
    known: int

    @property
    def own(self) -> int:
        return len(self.place_L) - self.known

    @property
    def start(self) -> int:
        """Where its own ids begin."""
        return int(self.place_L[self.known])


def needed(row: Sequenced) -> int:
    """How many of a row's ids go through the model: none after the last one that predicts a target."""
    return max(1, int(row.targets.max(initial=1)))


def in_order(rows: Sequence[Sequenced], owners: Sequence[int] | None = None) -> list[int]:
    """Row numbers, those that begin alike next to each other; rows of different owners have nothing in common."""
    keys = [row.ids[: needed(row)].astype(">u4").tobytes() for row in rows]
    return sorted(range(len(rows)), key=lambda number: (owners[number] if owners else 0, keys[number], number))


def in_common(row: Sequenced, other: Sequenced) -> int:
    """How many first ids a row takes from one that stands before it; one at least remains its own."""
    most = min(needed(row) - 1, needed(other))
    differ = row.ids[:most] != other.ids[:most]
    count = int(differ.argmax()) if differ.any() else most
    return count if count >= max(WORTH, SHARE * needed(row)) else 0


def passes_of(rows: Sequence[Sequenced], token_budget: int, owners: Sequence[int] | None = None) -> list[list[int]]:
    """Row numbers in packs of at most `token_budget` tokens, what is in common counted once.

    A row longer than the budget is a pack of its own: it has to be trained, and the machine says if it cannot.
    """
    packs: list[list[int]] = []
    tokens = 0  # of the last pack
    for number in in_order(rows, owners):
        row = rows[number]
        known = 0
        if packs and (owners is None or owners[packs[-1][-1]] == owners[number]):
            known = in_common(row, rows[packs[-1][-1]])
        if packs and tokens + needed(row) - known <= token_budget:
            packs[-1].append(number)
            tokens += needed(row) - known
        else:
            packs.append([number])
            tokens = needed(row)
    return packs


def pieces_of(rows: Sequence[Sequenced], first: int = 0) -> list[Piece]:
    """The rows of one owner in a pack, whose tokens begin at place `first`: those of about one shape side by side."""
    order = in_order(rows)
    known = [0, *(in_common(rows[number], rows[before]) for before, number in zip(order, order[1:], strict=False))]
    shape = {}  # of each row: whether it shares, how many ids are its own, how many are not
    for number, count in zip(order, known, strict=True):
        shape[number] = (count > 0, needed(rows[number]) - count, count)
    begins, place = {}, first
    for number in sorted(order, key=lambda number: (shape[number], number), reverse=True):
        begins[number] = place
        place += shape[number][1]
    pieces: dict[int, Piece] = {}
    place_L = np.zeros(0, dtype=np.int64)
    for number, count in zip(order, known, strict=True):
        begin = begins[number]
        place_L = np.concatenate([place_L[:count], np.arange(begin, begin + shape[number][1])])
        pieces[number] = Piece(number, place_L, count)
    return [pieces[number] for number in begins]


def tokens_of(rows: Sequence[Sequenced]) -> int:
    """How many tokens the rows of one owner take in a pack."""
    return sum(piece.own for piece in pieces_of(rows))


def runs(pieces: Sequence[Piece], alike: float, most: int) -> Iterator[list[Piece]]:
    """Neighbours of about one shape, within the factor `alike`: as many own ids, as many known ones.

    Where rows know more or less, each has a mask of its own; these masks together have at most `most` places.
    """
    run = [pieces[0]]
    bounds = _bounds(pieces[0])
    for piece in pieces[1:]:
        wider = [(min(low, one), max(high, one)) for (low, high), (one, _) in zip(bounds, _bounds(piece), strict=True)]
        own, whole, known = wider
        masks = (len(run) + 1) * own[1] * (known[1] + own[1]) if known[0] < known[1] else 0
        fits = own[0] >= alike * own[1] and whole[0] >= alike * whole[1] and masks <= most
        if fits and (known[0] or not known[1]):
            run.append(piece)
            bounds = wider
        else:
            yield run
            run, bounds = [piece], _bounds(piece)
    yield run


def _bounds(piece: Piece) -> list[tuple[int, int]]:
    """Least and most own ids, all ids and known ids of one row."""
    return [(size, size) for size in (piece.own, len(piece.place_L), piece.known)]
