"""Tic-tac-toe and connect four: boards of two marks that both players see.

The board is shown whole each time. A rendered board is a function of OpenSpiel's, so it is kept.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from pydantic import Field, model_validator

from marft.games.openspiel import Event, SpielGame, TurnOptions
from marft.games.spiel_players import BASIC, MAKERS, SEARCH

if TYPE_CHECKING:
    from marft.games.openspiel import SpielView

MARKS = ("X", "O")
LINES = ((0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6))


@lru_cache(maxsize=8192)
def numbered(board: str) -> str:
    """Three rows of marks, each free cell as the digit that chooses it."""
    cells = [mark.upper() if mark != "." else str(i + 1) for i, mark in enumerate(board.replace("\n", ""))]
    return "\n".join(" ".join(cells[row : row + 3]) for row in (0, 3, 6))


class TicTacToe(SpielGame):
    """Cells 1 to 9; whoever stands first is X."""

    name = "tic_tac_toe"

    def spiel(self) -> str:
        return "tic_tac_toe"

    def actions(self) -> Iterable[str]:
        return "123456789"

    def rules(self, player: int) -> str:
        return (
            f"You play tic-tac-toe as {MARKS[player]} against another player. X moves first; three of one's marks in a "
            "row, column or diagonal win. A free cell is shown by its number. Answer with one, like this: "
            "<answer>5</answer>"
        )

    def news(self, player: int, events: Sequence[Event]) -> str:
        board = numbered(self._state.observation_string(player))
        if events and events[-1][0] != player:
            return f"{MARKS[1 - player]} took {self._names[events[-1][1]]}.\n{board}\nYour cell?"
        return f"{board}\nYour cell?"


class ConnectFour(SpielGame):
    """Columns from 1; whoever stands first is X."""

    name = "connect_four"

    class Options(TurnOptions):
        """rows, columns: the board's size. in_a_row: how many win."""

        rows: int = Field(6, ge=3, le=9, strict=True)
        columns: int = Field(7, ge=3, le=9, strict=True)
        in_a_row: int = Field(4, ge=3, le=9, strict=True)

        @model_validator(mode="after")
        def _fits(self) -> ConnectFour.Options:
            if self.in_a_row > max(self.rows, self.columns):
                raise ValueError(f"in_a_row {self.in_a_row} needs as many rows or columns")
            return self

    def spiel(self) -> str:
        o = self.options
        return f"connect_four(rows={o.rows},columns={o.columns},x_in_row={o.in_a_row})"

    def actions(self) -> Iterable[str]:
        return "123456789"[: self.options.columns]

    def rules(self, player: int) -> str:
        o = self.options
        return (
            f"You play connect four as {MARKS[player]} against another player. X moves first. A mark falls to the "
            f"lowest free place of its column; {o.in_a_row} of one's marks in a row, column or diagonal win. Answer "
            "with the number of a column that is not full, like this: <answer>1</answer>"
        )

    def news(self, player: int, events: Sequence[Event]) -> str:
        # every character apart, "\n" too, is a single pass in C; then the spaces around line ends go
        board = " ".join(self._state.observation_string(player).upper()).replace(" \n ", "\n")[:-2]
        header = " ".join(self._names)
        if events and events[-1][0] != player:
            return f"{MARKS[1 - player]} chose {self._names[events[-1][1]]}.\n{header}\n{board}\nYour column?"
        return f"{header}\n{board}\nYour column?"


@lru_cache(maxsize=8192)
def best_cells(board: str, mark: str) -> tuple[int, tuple[int, ...]]:
    """The value of a board for the mark to move (1 win, 0 draw, -1 loss) and every cell that reaches it."""
    other = "O" if mark == "X" else "X"
    if any(board[a] == board[b] == board[c] == other for a, b, c in LINES):
        return -1, ()
    free = [i for i, cell in enumerate(board) if cell == "."]
    if not free:
        return 0, ()
    values = {i: -best_cells(board[:i] + mark + board[i + 1 :], other)[0] for i in free}
    best = max(values.values())
    return best, tuple(i for i, value in values.items() if value == best)


def perfect(view: SpielView, rng: random.Random) -> str:
    """A move that keeps the game's value, any of them evenly; it never loses."""
    board = ["."] * 9
    for turn, cell in enumerate(view.history):
        board[cell] = MARKS[turn % 2]
    _, cells = best_cells("".join(board), MARKS[view.player])
    return view.say[view.legal.index(rng.choice(cells))]


TicTacToe.players = BASIC | {"perfect": perfect} | SEARCH
ConnectFour.players = BASIC | SEARCH
TicTacToe.makers = ConnectFour.makers = MAKERS
