"""Liar's dice: hidden dice, rising bids on all of them, until one player calls the other a liar."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from marft.games.openspiel import Event, SpielGame, TurnOptions
from marft.games.spiel_players import BASIC

if TYPE_CHECKING:
    from marft.games.openspiel import SpielView

PLACES = ("first", "second")


def cautious(view: SpielView, rng: random.Random) -> str:
    """Calls a liar when the bid asks for more of a face than it holds plus one; else raises on the face it holds most
    of, by the least that is allowed."""
    dice, *bids = view.info.split()
    if bids:
        number, face = bids[-1].split("-")
        if int(number) > dice.count(face) + 1:
            return view.say[-1]
    favourite = max(dice, key=lambda face: (dice.count(face), face))
    for say in view.say:
        if say.endswith(f"-{favourite}</answer>"):
            return say
    return view.say[-1]


class LiarsDice(SpielGame):
    """The highest face is wild."""

    name = "liars_dice"
    players = BASIC | {"cautious": cautious}

    class Options(TurnOptions):
        """dice: how many each player rolls. sides: faces of a die."""

        dice: int = Field(1, ge=1, le=5, strict=True)
        sides: int = Field(6, ge=2, le=9, strict=True)

    def spiel(self) -> str:
        return f"liars_dice(numdice={self.options.dice},dice_sides={self.options.sides})"

    def actions(self) -> Iterable[str]:
        o = self.options
        bids = [f"{number}-{face}" for number in range(1, 2 * o.dice + 1) for face in range(1, o.sides + 1)]
        return [*bids, "liar"]

    def rules(self, player: int) -> str:
        o = self.options
        dice = "a hidden die" if o.dice == 1 else f"{o.dice} hidden dice"
        return (
            f"You play liar's dice against another player. Each of you has rolled {dice} with {o.sides} sides. A bid "
            f"such as 1-2 says that of all {2 * o.dice} dice at least 1 shows a 2; a {o.sides} counts as every face. "
            f"You bid {PLACES[player]}. Each bid must ask for more dice than the last one, or for as many of a higher "
            "face. Instead of bidding one may call the last bid a lie: who made it wins if it holds, else the caller. "
            "Answer with a bid or with liar, like this: <answer>1-2</answer> or <answer>liar</answer>"
        )

    def news(self, player: int, events: Sequence[Event]) -> str:
        mine = f"{self._dice(player)} " if self._told[player] < 0 else ""
        if not events or events[-1][0] != 1 - player:
            return f"{mine}Your bid?"
        return f"{mine}The other bids {self._names[events[-1][1]]}. Your bid, or liar?"

    def _dice(self, player: int) -> str:
        """OpenSpiel deals all dice of player 0, then all of player 1; shown in order of their faces."""
        count = self.options.dice
        faces = sorted(what + 1 for _, what in self._log[player * count : (player + 1) * count])
        return f"Your dice: {', '.join(map(str, faces))}."

    def private(self, seat: str) -> str | None:
        return self._dice(self._seat_of.index(seat))
