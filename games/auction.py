"""Sealed-bid first-price auction of GAMA-Bench (arXiv 2403.11807): what an item is worth to a seat is its secret."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from marft.games.gama import GamaGame, GamaOptions, mean
from marft.games.table import View, player, uniform

if TYPE_CHECKING:
    from marft.game import Player


class AuctionOptions(GamaOptions):
    """most: the largest value and bid. Values are drawn evenly from 0 on, anew each round."""

    most: int = Field(200, ge=1, le=100_000, strict=True)


def _shading(share: float | None, doc: str) -> Player:
    """Bids a share of its value; None: that of the equilibrium with evenly drawn values, (n - 1) / n."""

    def choose(view: View, rng: random.Random) -> int:
        part = 1 - 1 / len(view.seats) if share is None else share
        return min(view.choices[-1], round(part * view.now["value"]))

    choose.__doc__ = doc
    return player(choose)


@player
def _under(view: View, rng: random.Random) -> int:
    """Any bid up to its value."""
    return rng.randint(0, view.now["value"])


class SealedBidAuction(GamaGame):
    """The highest bid wins and is paid; a tie is decided by lot. All learn who won at what price, and nothing else."""

    name = "sealed_bid_auction"
    Options: ClassVar[type[AuctionOptions]] = AuctionOptions
    measure = "bid_share"
    players = {
        "truthful": _shading(1.0, "Bids its value."),
        "equilibrium": _shading(None, "Bids as in equilibrium."),
        "half": _shading(0.5, "Bids half of its value."),
        "low": _shading(0.1, "Bids next to nothing."),
        "eager": _shading(1.2, "Bids more than its value."),
        "under": _under,
        "random": uniform,
    }

    def menu(self) -> range:
        return range(self.options.most + 1)

    def rules(self) -> str:
        return (
            f"Each round an item is sold. What it is worth to each is secret and drawn from 0 to {self.options.most}. "
            "The highest bid wins, by lot among equals, and earns its worth less its bid; the others earn nothing."
        )

    def deal(self, rng: random.Random) -> None:
        o = self.options
        self._values = tuple(tuple(rng.randint(0, o.most) for _ in self.seats) for _ in range(o.rounds))

    def _value(self, seat: str) -> int:
        return self._values[self.clock][self.seats.index(seat)]

    def line(self, seat: str) -> str:
        return f"Round {self.clock + 1} of {self.options.rounds}: the item is worth {self._value(seat)} to you."

    def pay(self, moves: Mapping[str, int]) -> dict[str, float]:
        self.winner = self._winner(moves)
        gain = self._value(self.winner) - moves[self.winner]
        return {seat: gain * (seat == self.winner) for seat in moves}

    def _winner(self, moves: Mapping[str, int]) -> str:
        top = max(moves.values())
        best = [seat for seat in self.seats if moves[seat] == top]
        return best[0] if len(best) == 1 else self.chance("tie").choice(best)

    def report(self, moves: Mapping[str, int]) -> str:
        return f"{self.winner} won at {moves[self.winner]}."

    def recalled(self, seat: str) -> tuple[Mapping[str, Any], ...]:
        """Per round: moves, with the own bid only."""
        return tuple({"moves": {seat: record["moves"][seat]}} for record in self.past)

    def known(self, seat: str) -> Mapping[str, Any]:
        """value: of this round's item."""
        return {"value": self._value(seat) if self._turn else None}

    def private(self, seat: str) -> str | None:
        return self.line(seat) if self._turn else None

    def facts(self) -> dict[str, Any]:
        """values: per round, in the order of seats."""
        values = [list(values) for values in self._values[: len(self.past)]]
        return {**super().facts(), "seats": list(self.seats), "values": values}

    @classmethod
    def measured(cls, move: int, seat: str, step: int, facts: Mapping[str, Any]) -> float | None:
        """Mean of bid over value, where the value is not 0."""
        value = facts["values"][step][facts["seats"].index(seat)]
        return move / value if value else None

    @classmethod
    def score(cls, values: Sequence[float], facts: Mapping[str, Any], rounds: Sequence[Sequence[Any]]) -> float:
        return mean([max(0.0, 1 - share) for share in values])
