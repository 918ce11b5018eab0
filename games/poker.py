"""Kuhn poker and Leduc poker: a hidden card each, bets, and the better card takes the pot.

Returns are chips won or lost. Leduc is played without suits (OpenSpiel's `suit_isomorphism`): they never matter, and
288 information states are left of 936.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from marft.games.openspiel import Event, SpielGame
from marft.games.spiel import CHANCE
from marft.games.spiel_players import BASIC, cfr

if TYPE_CHECKING:
    from marft.games.openspiel import SpielView

CARDS = ("jack", "queen", "king")
PLACES = ("first", "second")
LEDUC = re.compile(
    r"\[Observer: (\d)\]\[Private: (\d)\]\[Round (\d)\]\[Player: -?\d\]\[Pot: (\d+)\]"
    r"\[Money: (\d+) (\d+)\](?:\[Public: (\d)\])?"
)
PURSE = 100
"""Chips each player of OpenSpiel's Leduc poker starts with; no betting uses them up."""


def holds(card: int) -> str:
    return f"You hold the {CARDS[card]}."


class KuhnPoker(SpielGame):
    """Three cards, one bet."""

    name = "kuhn_poker"
    players = BASIC | {"cfr": cfr}

    def spiel(self) -> str:
        return "kuhn_poker"

    def actions(self) -> Iterable[str]:
        return ("pass", "bet")

    def rules(self, player: int) -> str:
        return (
            "You play Kuhn poker against another player. There are three cards, from low to high jack, queen, king; "
            f"each of you holds one and has put 1 chip into the pot. You speak {PLACES[player]}. To bet is to add 1 "
            "chip. If both pass, or one bets and the other answers with a bet, the higher card takes the pot; who "
            "passes after a bet gives it up. Answer <answer>pass</answer> or <answer>bet</answer>."
        )

    def news(self, player: int, events: Sequence[Event]) -> str:
        said = ""
        if events[-1][0] == 1 - player:
            said = "The other bet. " if events[-1][1] else "The other passed. "
        if events[0][0] == CHANCE:
            return f"{holds(events[player][1])} {said}Pass or bet?"
        return f"{said}Pass or bet?"

    def private(self, seat: str) -> str | None:
        return holds(self._log[self._seat_of.index(seat)][1])


@lru_cache(maxsize=4096)
def table(info: str) -> tuple[str, str]:
    """Own card, and round, public card and pot, in words, from OpenSpiel's information state."""
    me, card, number, pot, *money, public = LEDUC.match(info).groups()
    paid = [PURSE - int(left) for left in money]
    own, other = paid[int(me)], paid[1 - int(me)]
    shown = f" The public card is the {CARDS[int(public)]}." if public is not None else ""
    return holds(int(card)), f"Round {number}.{shown} Pot {pot}: you paid {own}, the other {other}."


class LeducPoker(SpielGame):
    """Six cards of three ranks, two rounds of bets, a public card between them."""

    name = "leduc_poker"
    players = BASIC | {"cfr": cfr}
    said = ("folded", "called", "raised")

    def spiel(self) -> str:
        return "leduc_poker(suit_isomorphism=True)"

    def actions(self) -> Iterable[str]:
        return ("fold", "call", "raise")

    def rules(self, player: int) -> str:
        return (
            "You play Leduc poker against another player. There are six cards, two jacks, two queens and two kings, "
            "from low to high; each of you holds one and has put 1 chip into the pot. After a first round of bets a "
            "public card is shown, then comes a second round; who stays takes the pot by a pair with the public card, "
            "else by the higher card, and equal cards share it. A raise adds 2 chips to the other's stake in round 1 "
            f"and 4 in round 2, two raises a round at most. You speak {PLACES[player]} in each round. To call when "
            "there is nothing to pay is to check. Answer <answer>call</answer>, <answer>raise</answer>, or, when you "
            "would have to pay, <answer>fold</answer>."
        )

    def news(self, player: int, events: Sequence[Event]) -> str:
        card, rest = table(self.info(player))
        parts = [f"The other {self.said[what]}." for who, what in events if who == 1 - player]
        if events[0][0] == CHANCE and len(events) > 1 and events[1][0] == CHANCE:  # both cards were just dealt
            parts.insert(0, card)
        legal = self._legal[player]
        names = [self._names[action] for action in legal]
        return f"{' '.join([*parts, rest])} {', '.join(names[:-1])} or {names[-1]}?"

    def private(self, seat: str) -> str | None:
        return table(self.info(self._seat_of.index(seat)))[0]


def by_card(view: SpielView, rng: random.Random) -> str:
    """Kuhn poker by the card alone: the king bets, the jack passes, the queen does either."""
    card = int(view.info[0])
    return view.say[rng.randrange(2) if card == 1 else card // 2]


def wary(view: SpielView, rng: random.Random) -> str:
    """Kuhn poker without bluffs: the king bets, the jack passes, the queen bets only after the other's pass."""
    card, said = int(view.info[0]), view.info[1:]
    return view.say[card == 2 or (card == 1 and said == "p")]


KuhnPoker.players |= {"by_card": by_card, "wary": wary}
