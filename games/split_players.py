"""Scripted players of split information: what each says of its part, and how it answers.

A part is told as "My part is ...". Whoever has been told all others' parts can work the answer out; in the maze whoever
holds all copies knows the way, and all who do name the same step. What is worked out and what is guessed is said in
other words, so that who learns from them can choose between the two.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from marft.games import maze
from marft.games.split_puzzles import PUZZLES
from marft.games.table import GREETING, View
from marft.games.text import answer

if TYPE_CHECKING:
    from marft.game import Player

EARLY = "01234ABCDE"
TOLD = re.compile(r"My part is ([^.]{1,4000})\.")


def tell(part: str) -> str:
    return f"My part is {part}."


def heard_parts(view: View) -> list[str]:
    """The own part, and of each other seat the last that it told."""
    told = {}
    for seat, text in view.now["heard"]:
        found = TOLD.search(text)
        if found:
            told[seat] = found[1]
    return [view.now["part"], *told.values()]


def worked_out(view: View) -> str | None:
    """The answer or the step that follows from all parts; None where one is missing or is none."""
    parts = heard_parts(view)
    if len(parts) < len(view.seats):
        return None
    if view.phase == "step":
        found, working = _step(view, parts), "All together:"
    else:
        puzzle = PUZZLES[view.now["options"].kind]
        found, working = puzzle.solve(parts), f"{tell(parts[0])} {puzzle.working(parts)}"
    return None if found is None else f"{working} {answer(found)}"


def guessed(view: View, rng: random.Random) -> str:
    """An answer that fits the own part, or a step that seems to lead on."""
    options, part = view.now["options"], view.now["part"]
    if view.phase == "answer":
        working, found = PUZZLES[options.kind].guess(rng, part, options)
        return f"My guess: {working} {answer(found)}"
    return f"My guess: {answer(_step(view, [part]) or rng.choice(view.choices))}"


def _step(view: View, parts: list[str]) -> str | None:
    copies = [part.split("/") for part in parts]
    side = view.now["options"].side
    if any(len(rows) != side or any(len(row) != side for row in rows) for rows in copies):
        return None
    rows = [list(row) for row in maze.merged(copies)]
    for row, column in (view.now["at"], view.now["goal"]):
        rows[row][column] = maze.FREE
    return maze.toward(["".join(row) for row in rows], view.now["at"], view.now["goal"])


def _other(view: View, rng: random.Random) -> str:
    """A part that is not the own one."""
    options, part = view.now["options"], view.now["part"]
    if options.kind == "maze":
        return part.translate(str.maketrans({maze.FREE: maze.WALL, maze.WALL: maze.FREE}))
    return PUZZLES[options.kind].other(rng, part, options)


def _player(say: Callable[[View, random.Random], str], reply: Callable[[View, random.Random], str], doc: str) -> Player:
    """Says so, once, and answers so."""

    def play(view: View, rng: random.Random) -> str:
        if view.phase == "talk":
            return GREETING if view.now["said"] else say(view, rng)
        return reply(view, rng)

    play.__doc__ = doc
    return play


def _works(view: View, rng: random.Random) -> str:
    return worked_out(view) or guessed(view, rng)


def _gives_up(view: View, rng: random.Random) -> str:
    """In the maze it names a step all the same, for all else is unreadable."""
    return f"I do not know: {answer(view.choices[0] if view.choices else 'unknown')}"


def _candid(view: View, rng: random.Random) -> str:
    return tell(view.now["part"])


def _liar(view: View, rng: random.Random) -> str:
    return tell(_other(view, rng))


def _silent(view: View, rng: random.Random) -> str:
    return GREETING


def _shy(view: View, rng: random.Random) -> str:
    return tell(view.now["part"]) if view.now["part"][0] in EARLY else GREETING


def erratic(view: View, rng: random.Random) -> str:
    """Says and answers anything."""
    if view.phase == "talk":
        return rng.choice((_candid, _liar, _silent))(view, rng)
    return answer(rng.choice(view.choices)) if view.choices else guessed(view, rng)


PLAYERS: dict[str, Any] = {
    "candid": _player(_candid, _works, "Tells its part and works the answer out from those it is told, else guesses."),
    "silent": _player(_silent, _works, "Tells nothing, and works the answer out if it is told the others' parts."),
    "liar": _player(_liar, _works, "Tells a part that is not its own; answers as candid."),
    "shy": _player(
        _shy, _works, "Tells a part that begins with a digit below 5 or a letter before F; answers as candid."
    ),
    "coy": _player(_shy, guessed, "Tells as shy does, and guesses, whatever it is told."),
    "deaf": _player(_candid, guessed, "Tells its part and guesses, whatever it is told."),
    "mute": _player(_silent, guessed, "Tells nothing and guesses."),
    "timid": _player(_candid, _gives_up, "Tells its part, and that it does not know the answer."),
    "idle": _player(_silent, _gives_up, "Tells nothing, and that it does not know the answer."),
    "random": erratic,
}
