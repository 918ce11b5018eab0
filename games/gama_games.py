"""Six games of GAMA-Bench (arXiv 2403.11807), each from its payoff and its score; see `gama` for what they share."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field

from marft.games.gama import GamaGame, GamaOptions, mean
from marft.games.table import View, least, middle, most, player, uniform
from marft.games.text import amount, plain


def _last(view: View) -> list[Any]:
    """All moves of the last round."""
    return list(view.past[-1]["moves"].values()) if view.past else []


class GuessOptions(GamaOptions):
    """most: the largest number; ratio: of the mean, which is to be met."""

    most: int = Field(100, ge=1, le=100_000, strict=True)
    ratio: float = Field(2 / 3, gt=0, lt=1, strict=True)


@player
def _level_one(view: View, rng: random.Random) -> int:
    """A third of the largest number: two thirds of its half."""
    return round(view.choices[-1] / 3)


@player
def _undercut(view: View, rng: random.Random) -> int:
    """Two thirds of the last mean, at first of the middle."""
    return round(2 / 3 * mean(_last(view) or [view.choices[-1] / 2]))


class GuessTwoThirds(GamaGame):
    """Who is closest to two thirds of the mean wins 1, shared among the winners. Only 0 is an equilibrium."""

    name = "guess_two_thirds"
    Options: ClassVar[type[GuessOptions]] = GuessOptions
    measure = "number"
    players = {
        "zero": least,
        "highest": most,
        "middle": middle,
        "level_one": _level_one,
        "undercut": _undercut,
        "random": uniform,
    }

    def menu(self) -> range:
        return range(self.options.most + 1)

    def rules(self) -> str:
        part = "two thirds" if self.options.ratio == 2 / 3 else plain(self.options.ratio)
        return f"Whoever is closest to {part} of the mean of all numbers wins 1 point; winners share it."

    def pay(self, moves: Mapping[str, int]) -> dict[str, float]:
        target = self.options.ratio * mean(list(moves.values()))
        away = {seat: abs(number - target) for seat, number in moves.items()}
        # numbers on both sides at the same distance tie, whatever the last digit of a float says
        winners = [seat for seat in moves if away[seat] <= min(away.values()) + 1e-9]
        return {seat: (seat in winners) / len(winners) for seat in moves}

    @classmethod
    def measured(cls, move: int, seat: str, step: int, facts: Mapping[str, Any]) -> float:
        """Mean number chosen."""
        return move

    @classmethod
    def score(cls, values: Sequence[float], facts: Mapping[str, Any], rounds: Sequence[Sequence[Any]]) -> float:
        return 1 - mean(values) / facts["options"]["most"]


class ElFarolOptions(GamaOptions):
    """ratio: the share of seats up to which going is pleasant. full, empty, home: worth of a crowded and a pleasant
    evening, and of staying."""

    ratio: float = Field(0.6, gt=0, lt=1, strict=True)
    empty: float = Field(10.0, ge=-1e6, le=1e6, strict=True)
    full: float = Field(0.0, ge=-1e6, le=1e6, strict=True)
    home: float = Field(5.0, ge=-1e6, le=1e6, strict=True)


@player
def _contrary(view: View, rng: random.Random) -> str:
    """Goes if most stayed last time, at first always."""
    last = _last(view)
    return "stay" if last.count("go") * 2 > len(last) else "go"


@player
def _mixed(view: View, rng: random.Random) -> str:
    """Goes six times in ten."""
    return "go" if rng.random() < 0.6 else "stay"


class ElFarol(GamaGame):
    """Going out is best if not too many do (Arthur 1994)."""

    name = "el_farol"
    Options: ClassVar[type[ElFarolOptions]] = ElFarolOptions
    measure = "go_share"
    players = {"go": least, "stay": most, "contrary": _contrary, "mixed": _mixed, "random": uniform}

    def menu(self) -> tuple[str, str]:
        return "go", "stay"

    def rules(self) -> str:
        o = self.options
        return (
            f"If at most {amount(100 * o.ratio)} % of all go, who goes earns {plain(o.empty)}; if more go, who goes "
            f"earns {plain(o.full)}. Who stays earns {plain(o.home)}."
        )

    def pay(self, moves: Mapping[str, str]) -> dict[str, float]:
        o, went = self.options, sum(move == "go" for move in moves.values())
        # the small amount keeps 0.6 of 10 seats at six, whatever the last digit of a float says
        out = o.empty if went <= o.ratio * len(moves) + 1e-9 else o.full
        return {seat: out if move == "go" else o.home for seat, move in moves.items()}

    @classmethod
    def measured(cls, move: str, seat: str, step: int, facts: Mapping[str, Any]) -> float:
        """Share of decisions to go."""
        return float(move == "go")

    @classmethod
    def score(cls, values: Sequence[float], facts: Mapping[str, Any], rounds: Sequence[Sequence[Any]]) -> float:
        """Of the table as a whole: how many go is nothing a single seat does. Not under 0 where the ratio is small."""
        ratio = facts["options"]["ratio"]
        return max(0.0, 1 - mean([abs(moves.count("go") / len(moves) - ratio) for moves in rounds]) / ratio)


class DivideOptions(GamaOptions):
    """gold: that is divided."""

    gold: int = Field(100, ge=1, le=100_000, strict=True)


@player
def _even(view: View, rng: random.Random) -> int:
    """An even share of the gold."""
    return view.choices[-1] // len(view.seats)


@player
def _modest(view: View, rng: random.Random) -> int:
    """Half of an even share."""
    return view.choices[-1] // len(view.seats) // 2


@player
def _eager(view: View, rng: random.Random) -> int:
    """One and a half even shares."""
    return min(view.choices[-1], 3 * view.choices[-1] // len(view.seats) // 2)


@player
def _adaptive(view: View, rng: random.Random) -> int:
    """Its last bid, scaled to what all the bids should have been."""
    last = sum(_last(view))
    if not last:
        return view.choices[-1] // len(view.seats)
    return min(view.choices[-1], view.past[-1]["moves"][view.seat] * view.choices[-1] // last)


class DivideDollar(GamaGame):
    """All get what they bid, unless the bids add up to more than there is (Shapley and Shubik 1969)."""

    name = "divide_dollar"
    Options: ClassVar[type[DivideOptions]] = DivideOptions
    measure = "bid"
    players = {"even": _even, "all": most, "modest": _modest, "eager": _eager, "adaptive": _adaptive, "random": uniform}

    def menu(self) -> range:
        return range(self.options.gold + 1)

    def rules(self) -> str:
        gold = self.options.gold
        return f"There are {gold} gold. If all bids add up to at most {gold}, each gets its bid, else all get nothing."

    def pay(self, moves: Mapping[str, int]) -> dict[str, float]:
        fits = sum(moves.values()) <= self.options.gold
        return {seat: fits * bid for seat, bid in moves.items()}

    @classmethod
    def measured(cls, move: int, seat: str, step: int, facts: Mapping[str, Any]) -> float:
        """Mean bid."""
        return move

    @classmethod
    def score(cls, values: Sequence[float], facts: Mapping[str, Any], rounds: Sequence[Sequence[Any]]) -> float:
        even = facts["options"]["gold"] / len(rounds[0])
        return max(0.0, 1 - mean([abs(bid - even) for bid in values]) / even)


class TokensOptions(GamaOptions):
    """tokens: of each per round. multiplier: of the pot."""

    tokens: int = Field(20, ge=1, le=100_000, strict=True)
    multiplier: float = Field(2.0, gt=1, le=100, strict=True)


@player
def _like_others(view: View, rng: random.Random) -> int:
    """The others' last mean, at first all."""
    others = [number for seat, number in (view.past[-1]["moves"] if view.past else {}).items() if seat != view.seat]
    return round(mean(others)) if others else view.choices[-1]


class PublicGoodsTokens(GamaGame):
    """The benchmark's public goods game. Its score is highest where nobody gives, which is worst for all together."""

    name = "public_goods_tokens"
    Options: ClassVar[type[TokensOptions]] = TokensOptions
    measure = "contribution_share"
    players = {"none": least, "all": most, "half": middle, "conditional": _like_others, "random": uniform}

    def menu(self) -> range:
        return range(self.options.tokens + 1)

    def rules(self) -> str:
        o = self.options
        return (
            f"Each has {o.tokens} tokens a round and puts some into a pot; the rest is kept. The pot is multiplied by "
            f"{plain(o.multiplier)} and shared equally among all."
        )

    def pay(self, moves: Mapping[str, int]) -> dict[str, float]:
        share = self.options.multiplier * sum(moves.values()) / len(moves)
        return {seat: self.options.tokens - given + share for seat, given in moves.items()}

    @classmethod
    def measured(cls, move: int, seat: str, step: int, facts: Mapping[str, Any]) -> float:
        """Mean share of the tokens that goes into the pot."""
        return move / facts["options"]["tokens"]

    @classmethod
    def score(cls, values: Sequence[float], facts: Mapping[str, Any], rounds: Sequence[Sequence[Any]]) -> float:
        return 1 - mean(values)


class DinerOptions(GamaOptions):
    """cheap_price, costly_price: of each dish. cheap_worth, costly_worth: what eating it is worth."""

    cheap_price: float = Field(10.0, ge=0, le=1e6, strict=True)
    cheap_worth: float = Field(15.0, ge=0, le=1e6, strict=True)
    costly_price: float = Field(20.0, ge=0, le=1e6, strict=True)
    costly_worth: float = Field(20.0, ge=0, le=1e6, strict=True)


@player
def _majority(view: View, rng: random.Random) -> str:
    """What most took last, at first the cheap dish."""
    last = _last(view)
    return "costly" if last.count("costly") * 2 > len(last) else "cheap"


@player
def _grudging(view: View, rng: random.Random) -> str:
    """The cheap dish until somebody once took the costly one."""
    return "costly" if any("costly" in record["moves"].values() for record in view.past) else "cheap"


class DinersDilemma(GamaGame):
    """All share the bill, so that each is tempted by the dish that is not worth it (Glance and Huberman 1994)."""

    name = "diners_dilemma"
    Options: ClassVar[type[DinerOptions]] = DinerOptions
    measure = "costly_share"
    players = {"cheap": least, "costly": most, "majority": _majority, "grudging": _grudging, "random": uniform}

    def menu(self) -> tuple[str, str]:
        return "cheap", "costly"

    def rules(self) -> str:
        o = self.options
        return (
            f"You eat together and share the bill equally. The cheap dish costs {plain(o.cheap_price)} and is worth "
            f"{plain(o.cheap_worth)} to who eats it; the costly dish costs {plain(o.costly_price)} and is worth "
            f"{plain(o.costly_worth)}. You earn what your dish is worth less your part of the bill."
        )

    def pay(self, moves: Mapping[str, str]) -> dict[str, float]:
        o = self.options
        costly = sum(move == "costly" for move in moves.values())
        bill = (costly * o.costly_price + (len(moves) - costly) * o.cheap_price) / len(moves)
        return {seat: (o.costly_worth if move == "costly" else o.cheap_worth) - bill for seat, move in moves.items()}

    @classmethod
    def measured(cls, move: str, seat: str, step: int, facts: Mapping[str, Any]) -> float:
        """Share of decisions for the costly dish."""
        return float(move == "costly")

    @classmethod
    def score(cls, values: Sequence[float], facts: Mapping[str, Any], rounds: Sequence[Sequence[Any]]) -> float:
        return mean(values)
