"""What the games around a table share: news for each seat, reading of moves, replacement of unreadable ones, clones.

A game says in `_start` who acts first, and in `_play` takes the answers and says who acts next. What a seat is to learn
is told once by `tell` and shown when it is next asked; `observe` changes nothing. All chance comes from the seed and
the place in the play (`chance`), so an episode is a function of seed and texts.

State of an episode lies in attributes that are immutable, or flat lists and dicts of immutable values: `clone` copies
one level. Records in `past` are dicts that nobody changes once they are there.
"""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from pydantic import ConfigDict, Field

from marft.game import Game, Message, Options, StepResult
from marft.games.text import answer, between, quotable, whole

if TYPE_CHECKING:
    from marft.game import Player

PAIR = ("alice", "bob")
GREETING = "Good luck."


def many_seats(number: int) -> tuple[str, ...]:
    """Seats p1, p2, ... of a game with a variable number."""
    return tuple(f"p{i + 1}" for i in range(number))


class TableOptions(Options):
    """rounds: how many are played.

    invalid: what an unreadable decision becomes: a `random` one of those allowed, or the `first` or `last` of them in
        the rules' order (for a number: the least or the most). It is played, flagged, and told to its seat.
    """

    # validators are built when first needed: building those of all games would double the time of `import marft.games`
    model_config = ConfigDict(defer_build=True)

    rounds: int = Field(10, ge=1, le=1000, strict=True)
    invalid: Literal["random", "first", "last"] = "random"


class TalkOptions(TableOptions):
    """talk: whether there is a message from each seat, where the rules have a place for it.

    message_limit: how many characters of a message the others are shown.
    """

    talk: bool = False
    message_limit: int = Field(200, ge=1, le=4000, strict=True)


class View(NamedTuple):
    """What a scripted player knows.

    round: from 0. phase: what is asked for; "talk" is a free message. choices: the moves allowed now, least first.
    past: one record per finished round, as all seats (or this one) were told it. now: what else is known; see the game.
    """

    seat: str
    seats: tuple[str, ...]
    round: int
    rounds: int
    phase: str
    choices: Sequence[Any]
    past: tuple[Mapping[str, Any], ...]
    now: Mapping[str, Any]


class TableGame(Game):
    """Base of the games: see the module. Subclasses write `_start`, `_play` and `_ask`."""

    Options: ClassVar[type[TableOptions]] = TableOptions
    seats = PAIR

    _turn: tuple[str, ...]
    phase: str

    @abstractmethod
    def _start(self, rng: random.Random) -> None:
        """Deal, tell the rules, and set `phase` and `_turn`."""

    @abstractmethod
    def _play(self, texts: Mapping[str, str]) -> StepResult:
        """Take the answers of the seats in `_turn`, tell what came of it, set `phase` and `_turn` (empty: over)."""

    @abstractmethod
    def _ask(self, seat: str) -> str:
        """The line that asks for the decision."""

    def reset(self, seed: int) -> None:
        self._seed = seed
        self.clock = 0
        self.past: list[Mapping[str, Any]] = []
        self._news: dict[str, tuple[str, ...]] = dict.fromkeys(self.seats, ())
        self._start(random.Random(seed))

    def acting(self) -> tuple[str, ...]:
        return self._turn

    def observe(self, seat: str) -> list[Message]:
        return [Message("user", "\n".join((*self._news[seat], self._ask(seat))))]

    def act(self, texts: Mapping[str, str]) -> StepResult:
        if not self._turn:
            raise RuntimeError("the episode is over: call reset before act")
        for seat in self._turn:
            self._news[seat] = ()
        return self._play(texts)

    def tell(self, text: str, *seats: str) -> None:
        """A line for these seats, or for all."""
        for seat in seats or self.seats:
            self._news[seat] += (text,)

    def tell_others(self, text: str, *but: str) -> None:
        for seat in self.seats:
            if seat not in but:
                self._news[seat] += (text,)

    def chance(self, *what: object) -> random.Random:
        """A generator for one purpose at this place of the play, the same in every replay and clone."""
        return random.Random(f"{self._seed}/{self.clock}/{self.phase}/{what}")

    def moves(
        self, texts: Mapping[str, str], choices: Sequence[Any], read: Callable[[str], Any] | None = None
    ) -> tuple[dict[str, Any], tuple[str, ...]]:
        """The move of each acting seat, and the seats whose move was unreadable and replaced by one of `choices`.

        choices: a range (whole numbers) or a tuple of words, which stand between the answer marks. read: another way
        to read a text; it gives None for the unreadable.
        """
        read = read or reader(choices)
        moves: dict[str, Any] = {}
        unread = []
        for seat in self._turn:
            move = read(texts[seat])
            if move is None:
                move = self.instead(seat, choices)
                self.tell(f"Unreadable: {self._named(move)} was played for you.", seat)
                unread.append(seat)
            moves[seat] = move
        return moves, tuple(unread)

    def instead(self, seat: str, choices: Sequence[Any]) -> Any:
        """What the policy for unreadable answers plays."""
        policy = self.options.invalid
        if policy == "random":
            return choices[self.chance(seat).randrange(len(choices))]
        return choices[0 if policy == "first" else -1]

    def _named(self, move: Any) -> str:
        return str(move)

    def converse(self, texts: Mapping[str, str]) -> StepResult:
        """One message of each acting seat reaches all other seats, at once."""
        said = {seat: quotable(texts[seat], self.options.message_limit) for seat in self._turn}
        for seat, text in said.items():
            self.tell_others(f'{seat} says: "{text}"', seat)
        return StepResult({}, {seat: {"say": text} for seat, text in said.items()})

    def choices(self, seat: str) -> Sequence[Any]:
        """The moves allowed to `seat` now, for `view`."""
        return ()

    def known(self, seat: str) -> Mapping[str, Any]:
        """What `seat` knows beside the past, for `view`."""
        return {}

    def recalled(self, seat: str) -> tuple[Mapping[str, Any], ...]:
        """The finished rounds as `seat` was told them, for `view`."""
        return tuple(self.past)

    def view(self, seat: str) -> View:
        number, rounds, choices = self.rounds_over(), self.options.rounds, self.choices(seat)
        return View(seat, self.seats, number, rounds, self.phase, choices, self.recalled(seat), self.known(seat))

    def rounds_over(self) -> int:
        """How many rounds are finished."""
        return len(self.past)

    def facts(self) -> dict[str, Any]:
        """played: how many rounds were paid."""
        return {"rounds": self.options.rounds, "played": self.rounds_over()}

    def clone(self) -> TableGame:
        twin = object.__new__(type(self))
        twin.__dict__.update(
            (key, value.copy() if isinstance(value, list | dict) else value) for key, value in self.__dict__.items()
        )
        return twin


def reader(choices: Sequence[Any]) -> Callable[[str], Any]:
    """How a move among these is read: a whole number of the range, or one of the words, between the answer marks."""
    if isinstance(choices, range):
        least, most = choices[0], choices[-1]
        return lambda text: whole(between(text), least, most)

    def word(text: str) -> str | None:
        inner = between(text)
        return inner if inner in choices else None

    return word


def player(choose: Callable[[View, random.Random], Any]) -> Player:
    """A scripted player from a function that chooses a move; asked for a message it sends a harmless one."""

    def play(view: View, rng: random.Random) -> str:
        return GREETING if view.phase == "talk" else answer(choose(view, rng))

    play.__name__ = choose.__name__
    play.__doc__ = choose.__doc__
    return play


@player
def uniform(view: View, rng: random.Random) -> Any:
    """Any of the moves allowed, all alike."""
    return view.choices[rng.randrange(len(view.choices))]


@player
def least(view: View, rng: random.Random) -> Any:
    """The first of the moves allowed."""
    return view.choices[0]


@player
def most(view: View, rng: random.Random) -> Any:
    """The last of the moves allowed."""
    return view.choices[-1]


@player
def middle(view: View, rng: random.Random) -> Any:
    """The one in the middle."""
    return view.choices[(len(view.choices) - 1) // 2]
