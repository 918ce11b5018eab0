"""Public goods: what is put into the pot grows and is shared by all, so that each is best off giving nothing.

`public_goods` lets all seats give at once; in `sequential_public_goods` they give one after the other and see who gave
what before them. Options add a message before and a punishment after: points that cost their giver one coin each and
the punished several (Fehr and Gächter 2000). All that belongs to a round shares its clock.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, model_validator

from marft.game import StepResult
from marft.games.table import GREETING, TableGame, TalkOptions, View, many_seats
from marft.games.tally import Seen, acted, tally
from marft.games.text import amount, answer, between, count, plain, whole

if TYPE_CHECKING:
    from marft.episode import Episode
    from marft.game import Player


class PublicGoodsOptions(TalkOptions):
    """seats: how many play. endowment: coins of each per round. multiplier: of the pot before it is shared.

    punishment: after the contributions each may assign points, at most punishment_budget in a round; a point costs its
        giver 1 and the punished punishment_effect. An unreadable punishment is none.
    """

    seats: int = Field(4, ge=2, le=20, strict=True)
    endowment: int = Field(20, ge=1, le=1000, strict=True)
    multiplier: float = Field(1.6, gt=0, le=100, strict=True)
    punishment: bool = False
    punishment_budget: int = Field(10, ge=1, le=1000, strict=True)
    punishment_effect: float = Field(3.0, ge=0, le=100, strict=True)

    @model_validator(mode="after")
    def _a_dilemma(self) -> PublicGoodsOptions:
        if not 1 < self.multiplier < self.seats:
            raise ValueError(
                "multiplier must lie between 1 and the number of seats, else there is no dilemma, got "
                f"{self.multiplier:g} with seats {self.seats}"
            )
        return self


class SequentialOptions(PublicGoodsOptions):
    """rotate: whether another seat begins each round, else p1 always does."""

    rotate: bool = True


def read_points(text: str, others: Sequence[str], budget: int) -> dict[str, int] | None:
    """Points from "p2 3, p4 1" or "none" between the answer marks; None where that does not hold or exceeds budget."""
    inner = between(text)
    if inner is None or inner == "none":
        return None if inner is None else {}
    points: dict[str, int] = {}
    for part in inner.split(","):
        seat, _, number = part.strip().partition(" ")
        value = whole(number.strip(), 0, budget)
        if value is None or seat not in others or seat in points:
            return None
        points[seat] = value
    return points if sum(points.values()) <= budget else None


def _player(give: Callable[[View, random.Random], float]) -> Player:
    """A player that gives what `give` says, and never punishes."""

    def play(view: View, rng: random.Random) -> str:
        if view.phase == "talk":
            return GREETING
        return answer("none" if view.phase == "punish" else round(give(view, rng)))

    play.__name__ = give.__name__
    play.__doc__ = give.__doc__
    return play


@_player
def free_rider(view: View, rng: random.Random) -> float:
    """Gives nothing."""
    return 0


@_player
def full(view: View, rng: random.Random) -> float:
    """Gives all."""
    return view.choices[-1]


@_player
def half(view: View, rng: random.Random) -> float:
    """Gives half."""
    return view.choices[-1] / 2


@_player
def conditional(view: View, rng: random.Random) -> float:
    """Gives what the others gave on average: those before it in this round, else all in the last; at first all."""
    given = view.now["given"] or (view.past[-1]["given"] if view.past else {})
    seen = [number for seat, number in given.items() if seat != view.seat]
    return sum(seen) / len(seen) if seen else view.choices[-1]


@_player
def declining(view: View, rng: random.Random) -> float:
    """Gives all at first and ever less."""
    return view.choices[-1] * (1 - view.round / view.rounds)


@_player
def erratic(view: View, rng: random.Random) -> float:
    """Gives any number."""
    return rng.choice(view.choices)


def punisher(view: View, rng: random.Random) -> str:
    """Gives all, and spends its points on those who gave least, if less than half of what the most generous gave."""
    if view.phase != "punish":
        return full(view, rng)
    given = view.now["given"]
    bad = sorted(seat for seat in given if seat != view.seat and given[seat] * 2 < max(given.values()))
    each = view.now["budget"] // len(bad) if bad else 0
    return answer(", ".join(f"{seat} {min(each, 3)}" for seat in bad) if each else "none")


class PublicGoods(TableGame):
    """See the module. Phases: "talk" (option), "give", "punish" (option)."""

    name = "public_goods"
    Options: ClassVar[type[PublicGoodsOptions]] = PublicGoodsOptions
    players = {
        "free_rider": free_rider,
        "full": full,
        "half": half,
        "conditional": conditional,
        "declining": declining,
        "punisher": punisher,
        "random": erratic,
    }
    in_turn: ClassVar[bool] = False

    def __init__(self, options: PublicGoodsOptions | None = None) -> None:
        super().__init__(options)
        o = self.options
        self.seats = many_seats(o.seats)
        how = "all at once" if not self.in_turn else "one after the other, seeing what those before gave,"
        turns = " Who begins changes every round." * getattr(o, "rotate", False)
        talk = f" Before that all send a message of at most {o.message_limit} characters." * o.talk
        punish = (
            f" Then each may assign up to {o.punishment_budget} points in all to others; a point costs you 1 and the "
            f"other {plain(o.punishment_effect)}. Answer {answer(f'{self.seats[1]} 2')}, with commas between several, "
            f"or {answer('none')}."
        ) * o.punishment
        self._rules = (
            f"one of {o.seats} players, {self.seats[0]} to {self.seats[-1]}, who play "
            f"{count(o.rounds, 'round')}. In each, every player has {o.endowment} coins and {how} decides how many go "
            f"into a pot; the rest is kept. The pot is multiplied by {plain(o.multiplier)} and shared equally among "
            f"all.{turns} Answer with a whole number from 0 to {o.endowment}, as {answer(o.endowment // 2)}."
            f"{talk}{punish}"
        )

    def _start(self, rng: random.Random) -> None:
        for seat in self.seats:
            self.tell(f"You are {seat}, {self._rules}", seat)
        self._open()

    def _open(self) -> None:
        self.given: dict[str, int] = {}
        if len(self.past) == self.options.rounds:
            self._turn = ()
            return
        self.tell(f"Round {self.clock + 1} of {self.options.rounds}.")
        self.phase = "talk" if self.options.talk else "give"
        self._turn = self.seats if self.phase == "talk" else self._next_givers()

    def _next_givers(self) -> tuple[str, ...]:
        if not self.in_turn:
            return self.seats
        first = self.clock * self.options.rotate + len(self.given)
        return (self.seats[first % len(self.seats)],)

    def _ask(self, seat: str) -> str:
        return {"talk": "Your message?", "give": "Your contribution?", "punish": "Your points?"}[self.phase]

    def _play(self, texts: Mapping[str, str]) -> StepResult:
        if self.phase == "talk":
            result = self.converse(texts)
            self.phase, self._turn = "give", self._next_givers()
            return result
        return self._give(texts) if self.phase == "give" else self._punish(texts)

    def _give(self, texts: Mapping[str, str]) -> StepResult:
        o = self.options
        moves, unread = self.moves(texts, range(o.endowment + 1))
        actions = {seat: {"give": number} for seat, number in moves.items()}
        self.given = {**self.given, **moves}
        if len(self.given) < len(self.seats):
            ((seat, number),) = moves.items()
            self.tell_others(f"{seat} gave {number}.", seat)
            self._turn = self._next_givers()
            return StepResult({}, actions, unread)
        share = o.multiplier * sum(self.given.values()) / len(self.seats)
        rewards = {seat: o.endowment - self.given[seat] + share for seat in self.seats}
        gave = ", ".join(f"{seat} {self.given[seat]}" for seat in self.seats)
        for seat in self.seats:
            self.tell(f"They gave: {gave}. You earned {amount(rewards[seat])}.", seat)
        if o.punishment:
            self.phase, self._turn = "punish", self.seats
        else:
            self._close()
        return StepResult(rewards, actions, unread)

    def _punish(self, texts: Mapping[str, str]) -> StepResult:
        o = self.options
        points, unread = {}, ()
        for seat in self.seats:
            others = [other for other in self.seats if other != seat]
            found = read_points(texts[seat], others, o.punishment_budget)
            if found is None:
                self.tell("Unreadable: you assigned no points.", seat)
                unread += (seat,)
            points[seat] = found or {}
        got = {seat: sum(given.get(seat, 0) for given in points.values()) for seat in self.seats}
        rewards = {seat: -sum(points[seat].values()) - o.punishment_effect * got[seat] for seat in self.seats}
        for seat in self.seats:
            self.tell(f"You got {got[seat]} points, which with your own cost you {amount(-rewards[seat])}.", seat)
        self._close()
        return StepResult(rewards, {seat: {"punish": given} for seat, given in points.items()}, unread)

    def _close(self) -> None:
        self.past.append({"given": self.given})
        self.clock += 1
        self._open()

    def choices(self, seat: str) -> Sequence[int]:
        return range(self.options.endowment + 1) if self.phase == "give" else ()

    def known(self, seat: str) -> Mapping[str, Any]:
        """given: contributions of this round that can be seen. budget: of points."""
        return {"given": self.given, "budget": self.options.punishment_budget}

    def facts(self) -> dict[str, Any]:
        return {**super().facts(), "endowment": self.options.endowment}

    @classmethod
    def metrics(cls, episodes: Sequence[Episode], seats: Sequence[str] | None = None) -> dict[str, float]:
        """contribution_share: mean share of the endowment that is given. points: mean number assigned in a punishment.

        free_rider_gap: what those who gave least in a round earned there beyond those who gave most, punishment
        included; mean over the rounds in which contributions differed, over all seats.
        """

        def look(episode: Episode) -> Iterator[Seen]:
            given: dict[int, dict[str, int]] = {}
            for turn, number in acted(episode, "give"):
                yield turn.seat, "contribution_share", number / episode.facts["endowment"]
                given.setdefault(turn.step, {})[turn.seat] = number
            for turn, points in acted(episode, "punish"):
                yield turn.seat, "points", sum(points.values())
            for step, numbers in given.items():
                low, high = min(numbers.values()), max(numbers.values())
                if low < high:
                    earned = episode.rewards[step]
                    sides = [[earned[seat] for seat in numbers if numbers[seat] == side] for side in (low, high)]
                    yield None, "free_rider_gap", sum(sides[0]) / len(sides[0]) - sum(sides[1]) / len(sides[1])

        return tally(episodes, seats, look, ("contribution_share", "points"), ("free_rider_gap",))


class SequentialPublicGoods(PublicGoods):
    """Seats give one after the other, seeing what those before them gave."""

    name = "sequential_public_goods"
    Options: ClassVar[type[SequentialOptions]] = SequentialOptions
    in_turn = True
