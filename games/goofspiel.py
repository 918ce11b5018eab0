"""Goofspiel: both bid a card at once for the prize that is turned up, round after round."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from marft.games.openspiel import Event, SpielGame, SpielOptions
from marft.games.spiel import CHANCE
from marft.games.spiel_players import BASIC

if TYPE_CHECKING:
    from marft.games.openspiel import SpielView


HANDS = ("P0 hand: ", "P1 hand: ")


def match_prize(view: SpielView, rng: random.Random) -> str:
    """Bids the card that equals the prize, else its nearest one."""
    prize = int(_after(view.info, "Point card sequence: ").split()[-1]) - 1
    return view.say[min(range(len(view.legal)), key=lambda i: abs(view.legal[i] - prize))]


def _after(seen: str, label: str) -> str:
    """What stands behind a label in OpenSpiel's information state, to the end of the line."""
    start = seen.index(label) + len(label)
    return seen[start : seen.index("\n", start)]


def _hand(seen: str, player: int) -> str:
    return f"Your cards: {_after(seen, HANDS[player]).rstrip()}."


class Goofspiel(SpielGame):
    """Cards 1 to `cards`; the last round plays itself, one card being left."""

    name = "goofspiel"
    players = BASIC | {"match_prize": match_prize}

    class Options(SpielOptions):
        """cards: of each hand and of the prizes. prizes: their order. hidden_bids: bids are not shown, only who won.
        returns: 1, 0 or -1 by points (`win_loss`), or points over the mean of both (`point_difference`)."""

        cards: int = Field(13, ge=2, le=13, strict=True)
        prizes: Literal["random", "ascending", "descending"] = "random"
        hidden_bids: bool = False
        returns: Literal["win_loss", "point_difference"] = "win_loss"

    def spiel(self) -> str:
        o = self.options
        return (
            f"goofspiel(num_cards={o.cards},points_order={o.prizes},imp_info={o.hidden_bids},returns_type={o.returns})"
        )

    def actions(self) -> Iterable[str]:
        return [str(card + 1) for card in range(self.options.cards)]

    def rules(self, player: int) -> str:
        o = self.options
        shown = "The bids are not shown, only who won." if o.hidden_bids else "Then both bids are shown."
        order = "in random order" if o.prizes == "random" else f"in {o.prizes} order"
        return (
            f"You play goofspiel against another player. Each of you holds the cards 1 to {o.cards}, and prizes 1 to "
            f"{o.cards} are turned up {order}. For each prize both bid one of their cards at once; the higher card "
            f"wins the prize's points, equal cards win nothing, and both bids are spent. {shown} Most points at the "
            "end win. Answer with one of your cards, like this: <answer>1</answer>"
        )

    def news(self, player: int, events: Sequence[Event]) -> str:
        bids = [what for who, what in events if who != CHANCE]
        told = ""
        if bids:
            own, other = bids[player], bids[1 - player]
            result = "You won it." if own > other else "The other won it." if other > own else "Nobody won it."
            told = result + " " if self.options.hidden_bids else f"The other bid {self._names[other]}. {result} "
        seen = self.info(player)
        prize = _after(seen, "Point card sequence: ").split()[-1]
        points = _after(seen, "Points: ").split()
        score = f"Points: you {points[player]}, the other {points[1 - player]}."
        return f"{told}{score} The prize is {prize}. {_hand(seen, player)} Your bid?"

    def private(self, seat: str) -> str | None:
        if not self.options.hidden_bids:
            return None
        player = self._seat_of.index(seat)
        return _hand(self.info(player), player)
