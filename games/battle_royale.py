"""Battle royale of GAMA-Bench (arXiv 2403.11807): shots in turn, weakest first, until one is left.

A shot goes at one of those still in, or at nobody, and hits with the shooter's known rate. The last one left wins 1; if
several are left after the last round they share it. The benchmark scores the share of shots at the strongest other.
Each shot is a step of its own.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, model_validator

from marft.game import StepResult
from marft.games.table import TableGame, TableOptions, View, many_seats, player, uniform
from marft.games.tally import Seen, acted, tally
from marft.games.text import answer, count

if TYPE_CHECKING:
    from marft.episode import Episode
    from marft.game import Player

MISS = "miss"


class BattleOptions(TableOptions):
    """seats: how many play. rounds: how often each may shoot. weakest, strongest: hit rates in percent, in even steps.

    Of an unreadable shot the `first` choice is to miss, the `last` to shoot at the strongest.
    """

    seats: int = Field(10, ge=2, le=20, strict=True)
    rounds: int = Field(20, ge=1, le=1000, strict=True)
    weakest: int = Field(35, ge=1, le=100, strict=True)
    strongest: int = Field(80, ge=1, le=100, strict=True)

    @model_validator(mode="after")
    def _in_order(self) -> BattleOptions:
        if self.weakest > self.strongest:
            raise ValueError(f"weakest must not exceed strongest {self.strongest}, got {self.weakest}")
        return self


def _aiming(aim: Callable[[View], str], doc: str) -> Player:
    def choose(view: View, rng: random.Random) -> str:
        return aim(view)

    choose.__doc__ = doc
    return player(choose)


def _back(view: View) -> str:
    """Who last shot at it, if still in, else the strongest."""
    foes = [shot["by"] for shot in view.past if shot["at"] == view.seat and shot["by"] in view.choices]
    return foes[-1] if foes else view.choices[-1]


class BattleRoyale(TableGame):
    """See the module. Seats are in order of their hit rates. `past`: one record per shot."""

    name = "battle_royale"
    Options: ClassVar[type[BattleOptions]] = BattleOptions
    players = {
        "strongest": _aiming(lambda view: view.choices[-1], "Shoots at the strongest other."),
        "weakest": _aiming(lambda view: view.choices[1], "Shoots at the weakest other."),
        "peaceful": _aiming(lambda view: MISS, "Misses on purpose."),
        "back": _aiming(_back, "Shoots back, or at the strongest."),
        "waiting": _aiming(
            lambda view: MISS if len(view.choices) > 3 else view.choices[-1], "Misses until three are left."
        ),
        "random": uniform,
    }

    def __init__(self, options: BattleOptions | None = None) -> None:
        super().__init__(options)
        o = self.options
        self.seats = many_seats(o.seats)
        step = (o.strongest - o.weakest) / (o.seats - 1)
        self.rates = {seat: round(o.weakest + i * step) for i, seat in enumerate(self.seats)}
        rates = ", ".join(f"{seat} {rate} %" for seat, rate in self.rates.items())
        self._rules = (
            f"one of {o.seats} players who shoot in turn, in this order, for at most {count(o.rounds, 'round')}. "
            f"Their chances to hit are: {rates}. Who is hit is out. The last one left wins 1 point; if several are "
            f"left after the last round they share it. Answer with whom you shoot at, as {answer(self.seats[-1])}, "
            f"or with {answer(MISS)} to miss on purpose."
        )

    def _start(self, rng: random.Random) -> None:
        self.living = self.seats
        self.strongest: list[str] = []
        self._queue = self.seats
        self._begun = 1
        self.phase = "shoot"
        self._turn = self._queue[:1]
        for seat in self.seats:
            self.tell(f"You are {seat}, {self._rules}", seat)

    def _ask(self, seat: str) -> str:
        return f"Still in: {', '.join(self.living)}. Your shot?"

    def choices(self, seat: str) -> Sequence[str]:
        return (MISS, *(other for other in self.living if other != seat))

    def _play(self, texts: Mapping[str, str]) -> StepResult:
        (seat,) = self._turn
        choices = self.choices(seat)
        moves, unread = self.moves(texts, choices)
        target = moves[seat]
        hit = target != MISS and self.chance(seat).random() * 100 < self.rates[seat]
        self.strongest.append(choices[-1])
        self.past.append({"by": seat, "at": target, "hit": hit})
        what = "misses on purpose" if target == MISS else f"{'hits' if hit else 'misses'} {target}"
        self.tell(f"{seat} {what}.", *self.living)
        if hit:
            self.living = tuple(other for other in self.living if other != target)
        self._queue = tuple(other for other in self._queue[1:] if other in self.living)
        over = len(self.living) == 1 or (not self._queue and self._begun == self.options.rounds)
        if not self._queue and not over:
            self._begun += 1
            self._queue = self.living
        self._turn = () if over else self._queue[:1]
        self.clock += 1
        rewards = dict.fromkeys(self.living, 1 / len(self.living)) if over else {}
        return StepResult(rewards, {seat: {"shoot": target, "hit": hit}}, unread)

    def rounds_over(self) -> int:
        return self._begun - 1

    def known(self, seat: str) -> Mapping[str, Any]:
        """living; rates: hit rates in percent."""
        return {"living": self.living, "rates": self.rates}

    def facts(self) -> dict[str, Any]:
        """strongest: of those a shooter could shoot at, per shot. living: who was left. played: rounds begun."""
        return {
            **super().facts(),
            "played": self._begun,
            "strongest": self.strongest.copy(),
            "living": list(self.living),
        }

    @classmethod
    def metrics(cls, episodes: Sequence[Episode], seats: Sequence[str] | None = None) -> dict[str, float]:
        """score: share of shots at the strongest other, in percent. missed_on_purpose: share of shots. survivors: how
        many were left. shots: how many there were.
        """

        def look(episode: Episode) -> Iterator[Seen]:
            for turn, target in acted(episode, "shoot"):
                yield turn.seat, "score", 100.0 * (target == episode.facts["strongest"][turn.step])
                yield turn.seat, "missed_on_purpose", target == MISS
            yield None, "survivors", len(episode.facts["living"])
            yield None, "shots", len(episode.facts["strongest"])

        return tally(episodes, seats, look, ("score", "missed_on_purpose"), ("survivors", "shots"))
