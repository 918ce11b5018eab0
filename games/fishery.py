"""A common pool: what is left after the harvest grows again, and too little left means that nothing grows any more.

Each month (round) all seats harvest at once; then, if they may talk, each sends a message, which shares the clock of
the harvest it precedes. What is left multiplies, up to the pool's capacity; under a threshold the pool has collapsed
and the episode is over. Harvests that together exceed the pool are cut in proportion.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from math import fsum
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, model_validator

from marft.game import StepResult
from marft.games.table import TableGame, TalkOptions, View, least, many_seats, most, player
from marft.games.tally import Seen, acted, tally
from marft.games.text import amount, answer, count, plain

if TYPE_CHECKING:
    from marft.episode import Episode


class FisheryOptions(TalkOptions):
    """seats: how many harvest. rounds: months. capacity: units at the start, and the most there can be.

    growth: what the units left are multiplied by. collapse: with fewer units than that left after a harvest it is over.
    """

    seats: int = Field(5, ge=2, le=20, strict=True)
    rounds: int = Field(12, ge=1, le=1000, strict=True)
    capacity: int = Field(100, ge=1, le=100_000, strict=True)
    growth: float = Field(2.0, ge=1, le=100, strict=True)
    collapse: int = Field(5, ge=0, strict=True)
    talk: bool = True

    @model_validator(mode="after")
    def _can_live(self) -> FisheryOptions:
        if self.collapse >= self.capacity:
            raise ValueError(f"collapse must be less than capacity {self.capacity}, got {self.collapse}")
        return self


def gini(values: Sequence[float]) -> float:
    """Gini coefficient of amounts that are not negative; 0 where nobody has anything, 1 - 1/n where one has all."""
    total = fsum(values)
    spread = fsum(abs(a - b) for a in values for b in values)
    return spread / (2 * len(values) * total) if total > 0 else 0.0


def sustainable(stock: float, growth: float) -> float:
    """The largest harvest after which a pool of `stock` grows back to it."""
    return stock - stock / growth


def _share(view: View) -> int:
    """A seat's part of what may be taken without the pool getting smaller."""
    return int(sustainable(view.now["stock"], view.now["growth"]) / len(view.seats))


@player
def careful(view: View, rng: random.Random) -> int:
    """Its part of what grows back."""
    return _share(view)


@player
def sparing(view: View, rng: random.Random) -> int:
    """Half of its part."""
    return _share(view) // 2


@player
def hasty(view: View, rng: random.Random) -> int:
    """Half as much again as its part."""
    return min(view.choices[-1], _share(view) * 3 // 2)


@player
def grabbing(view: View, rng: random.Random) -> int:
    """Its part of the whole pool."""
    return int(view.now["stock"] / len(view.seats))


@player
def imitating(view: View, rng: random.Random) -> int:
    """What the others took on average last month, at first its part of what grows back."""
    if not view.past:
        return _share(view)
    taken = [number for seat, number in view.past[-1]["caught"].items() if seat != view.seat]
    return min(view.choices[-1], round(sum(taken) / len(taken)))


@player
def erratic(view: View, rng: random.Random) -> int:
    """Anything up to twice its part of what grows back."""
    return rng.randint(0, min(view.choices[-1], 2 * _share(view)))


class Fishery(TableGame):
    """See the module. Phases: "harvest", "talk" (option, not after the last harvest)."""

    name = "fishery"
    Options: ClassVar[type[FisheryOptions]] = FisheryOptions
    players = {
        "careful": careful,
        "sparing": sparing,
        "hasty": hasty,
        "grabbing": grabbing,
        "imitating": imitating,
        "all": most,
        "nothing": least,
        "random": erratic,
    }

    def __init__(self, options: FisheryOptions | None = None) -> None:
        super().__init__(options)
        o = self.options
        self.seats = many_seats(o.seats)
        talk = f" After each harvest all send a message of at most {o.message_limit} characters." * o.talk
        self._rules = (
            f"one of {o.seats} players, {self.seats[0]} to {self.seats[-1]}, who harvest from one pool for "
            f"{count(o.rounds, 'month')}. The pool holds {o.capacity} units at first. Each month all say at once how "
            "many units they take; if they ask for more than there is, all are cut in proportion. What is left is "
            f"multiplied by {plain(o.growth)}, up to {o.capacity} units. If fewer than {o.collapse} units are left "
            f"after a harvest, the pool is dead and all is over. You earn 1 for each unit you take.{talk} Answer with "
            f"a whole number of units, as {answer(3)}."
        )

    def _start(self, rng: random.Random) -> None:
        self.stock: float = self.options.capacity
        self.collapsed = False
        for seat in self.seats:
            self.tell(f"You are {seat}, {self._rules}", seat)
        self._open()

    def _open(self) -> None:
        self.phase, self._turn = "harvest", self.seats
        self.tell(f"Month {self.clock + 1} of {self.options.rounds}. The pool holds {amount(self.stock)} units.")

    def _ask(self, seat: str) -> str:
        return "Your message?" if self.phase == "talk" else "Your harvest?"

    def _play(self, texts: Mapping[str, str]) -> StepResult:
        if self.phase == "talk":
            result = self.converse(texts)
            self._open()
            return result
        o, stock = self.options, self.stock
        moves, unread = self.moves(texts, range(int(stock) + 1))
        asked = sum(moves.values())
        caught = moves if asked <= stock else {seat: number * stock / asked for seat, number in moves.items()}
        left = max(0.0, stock - asked)
        self.past.append({"stock": stock, "asked": moves, "caught": caught, "left": left})
        self.clock += 1
        self.stock = min(float(o.capacity), left * o.growth)
        taken = ", ".join(f"{seat} {amount(caught[seat])}" for seat in self.seats)
        self.tell(f"They took: {taken}. {amount(left)} units were left and grew to {amount(self.stock)}.")
        self.collapsed = left < o.collapse
        if self.collapsed or len(self.past) == o.rounds:
            self._turn = ()
        elif o.talk:
            self.phase = "talk"
        else:
            self._open()
        actions = {seat: {"harvest": number} for seat, number in moves.items()}
        return StepResult({seat: float(number) for seat, number in caught.items()}, actions, unread)

    def choices(self, seat: str) -> Sequence[int]:
        return range(int(self.stock) + 1) if self.phase == "harvest" else ()

    def known(self, seat: str) -> Mapping[str, Any]:
        """stock: units in the pool. growth: the factor."""
        return {"stock": self.stock, "growth": self.options.growth}

    def facts(self) -> dict[str, Any]:
        """collapsed; stock: units before each harvest; growth."""
        stock = [float(record["stock"]) for record in self.past]
        return {**super().facts(), "collapsed": self.collapsed, "stock": stock, "growth": self.options.growth}

    @classmethod
    def metrics(cls, episodes: Sequence[Episode], seats: Sequence[str] | None = None) -> dict[str, float]:
        """harvest: mean units asked for. over_use: share of harvests above a seat's part of what grows back.

        survival_months: in how many there was a pool to harvest from, the month of the collapse included.
        collapse_rate: share of episodes that ended by it. gini: Gini coefficient of all seats' returns, 0 where all
        have the same. equality: 1 - gini.
        """

        def look(episode: Episode) -> Iterator[Seen]:
            facts = episode.facts
            for turn, number in acted(episode, "harvest"):
                part = sustainable(facts["stock"][turn.step], facts["growth"]) / len(episode.seats)
                yield turn.seat, "harvest", number
                yield turn.seat, "over_use", number > part
            unequal = gini(list(episode.returns().values()))
            yield None, "survival_months", facts["played"]
            yield None, "collapse_rate", facts["collapsed"]
            yield None, "gini", unequal
            yield None, "equality", 1 - unequal

        return tally(
            episodes, seats, look, ("harvest", "over_use"), ("survival_months", "collapse_rate", "gini", "equality")
        )
