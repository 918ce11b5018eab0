"""Hanabi: both build the same fireworks, each seeing only the partner's cards. Both earn each point that is scored.

`mini_hanabi` is two colours, two ranks; larger ones by option. When the last life is lost the score falls back to 0, as
in OpenSpiel. A card one holds is described by the colours and ranks it may still have by the hints given; that is all
OpenSpiel's observation says of it, and it is said anew each turn.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from pydantic import Field, model_validator

from marft.games.openspiel import Event, SpielGame, TurnOptions
from marft.games.outcomes import score_metrics
from marft.games.spiel import CHANCE
from marft.games.spiel_players import BASIC

if TYPE_CHECKING:
    from marft.episode import Episode
    from marft.games.openspiel import SpielView

CURRENT = "Cur player"
"""Stands in an observation before the hand of whoever is to move."""
COLOURS = {"R": "red", "Y": "yellow", "G": "green", "W": "white", "B": "blue"}


class Card(NamedTuple):
    """A card as one player sees it: "R1", or "XX" where it is hidden; its possible colours and ranks by the hints."""

    face: str
    colours: str
    ranks: str
    known: str


class Seen(NamedTuple):
    """OpenSpiel's observation taken apart; hands are oldest first, fireworks such as "R0 Y2" (highest rank played)."""

    lives: str
    hints: str
    fireworks: str
    own: list[Card]
    partner: list[Card]
    deck: str
    discards: str


@lru_cache(maxsize=8192)
def _card(line: str) -> Card:
    """Of a line such as "R1 || X1|RY1"."""
    possible = line[line.rindex("|") + 1 :]
    colours = possible.rstrip("0123456789")
    ranks = possible[len(colours) :]
    return Card(line[:2], colours, ranks, f"{colours}/{ranks}")


def look(observation: str) -> Seen:
    """Take an observation apart."""
    lines = observation.split("\n")
    between = lines.index("-----")
    own = lines[5 if lines[4] == CURRENT else 4 : between]
    partner = lines[between + (2 if lines[between + 1] == CURRENT else 1) : -2]
    return Seen(
        lines[0][len("Life tokens: ") :],
        lines[1][len("Info tokens: ") :],
        lines[2][len("Fireworks: ") : -1],
        [_card(line) for line in own],
        [_card(line) for line in partner],
        lines[-2][len("Deck size: ") :],
        lines[-1][len("Discards:") :].strip() or "nothing",
    )


@lru_cache(maxsize=8192)
def describe(observation: str) -> tuple[str, str]:
    """The partner's cards, which only this player may see, and everything else there is to know now."""
    lives, hints, fireworks, own, partner, deck, discards = look(observation)
    faces = " ".join([card.face for card in partner])
    theirs, mine = " ".join([card.known for card in partner]), " ".join([card.known for card in own])
    return f"Your partner holds {faces} and", (
        f"knows {theirs}. You know of yours {mine}.\nFireworks {fireworks}, lives {lives}, hints {hints}, deck {deck}, "
        f"discarded {discards}. Your move?"
    )


class MiniHanabi(SpielGame):
    """Hanabi for two, small unless told otherwise."""

    name = "mini_hanabi"

    class Options(TurnOptions):
        """colours, ranks: of the deck (three 1s of each colour, one of the highest rank, two of each between).
        hand: cards each player holds. hints, lives: tokens at the start, hints also the most there can be."""

        colours: int = Field(2, ge=1, le=5, strict=True)
        ranks: int = Field(2, ge=1, le=5, strict=True)
        hand: int = Field(3, ge=1, le=5, strict=True)
        hints: int = Field(3, ge=1, le=8, strict=True)
        lives: int = Field(3, ge=1, le=9, strict=True)

        @model_validator(mode="after")
        def _enough_cards(self) -> MiniHanabi.Options:
            deck = self.colours * (2 * self.ranks + (self.ranks == 1) * 1)
            if 2 * self.hand > deck:
                raise ValueError(f"hand {self.hand} for two needs {2 * self.hand} cards of a deck of {deck}")
            return self

    def spiel(self) -> str:
        o = self.options
        return (
            f"hanabi(players=2,colors={o.colours},ranks={o.ranks},hand_size={o.hand},"
            f"max_information_tokens={o.hints},max_life_tokens={o.lives})"
        )

    def actions(self) -> Iterable[str]:
        """OpenSpiel's order: discards, plays, colours, ranks."""
        o = self.options
        places = range(1, o.hand + 1)
        colours = [f"hint {name}" for name in list(COLOURS.values())[: o.colours]]
        ranks = [f"hint {rank}" for rank in range(1, o.ranks + 1)]
        return [*(f"discard {i}" for i in places), *(f"play {i}" for i in places), *colours, *ranks]

    def rules(self, player: int) -> str:
        o = self.options
        letters = ", ".join(f"{letter} {name}" for letter, name in list(COLOURS.items())[: o.colours])
        return (
            f"You play Hanabi with a partner, for the same score. The deck has the colours {letters} and the ranks 1 "
            f"to {o.ranks}. Together you play each colour's cards in order from 1; a card that fits scores a point for "
            f"both, one that does not costs a life, and with the last of {o.lives} lives the whole score is lost. You "
            "see your partner's cards, not your own. A hint names a colour or a rank and shows all such cards of your "
            f"partner; it uses up one of {o.hints} hints. To discard a card gives one back, and so does completing a "
            "colour. What is played or discarded is replaced from the deck; when that is empty each has one more "
            "turn. Cards are counted from 1, the oldest first, and RY/12 is a card that may be red or yellow, of rank "
            "1 or 2. Answer with a move: <answer>play 1</answer>, <answer>discard 1</answer>, <answer>hint 1</answer> "
            "or <answer>hint red</answer>"
        )

    def record(self, player: int, action: int) -> tuple[str, str]:
        """The move and, of a card put down, which it was, as the partner saw it."""
        hand = self.options.hand
        if action >= 2 * hand:
            return self._names[action], ""
        seen = self.info(1 - player)
        start = seen.index("-----\n" + CURRENT) + len("-----\n" + CURRENT) + 1
        card = seen[start:].split("\n", action % hand + 1)[action % hand][:2]
        built = seen[seen.index(card[0], seen.index("Fireworks:") + 10) + 1]
        fits = int(card[1]) == int(built) + 1
        return self._names[action], f" ({card})" if action < hand else f" ({card}, {'it fits' if fits else 'no fit'})"

    def news(self, player: int, events: Sequence[Event]) -> str:
        parts = []
        for who, what in events:
            if who != CHANCE and (what[1] or who != player):  # a hint one gave oneself is no news
                parts.append(f"{'You' if who == player else 'Partner'}: {what[0]}{what[1]}.")
        return " ".join([*parts, *describe(self.info(player))])

    def private(self, seat: str) -> str | None:
        return describe(self.info(self._seat_of.index(seat)))[0]

    @classmethod
    def metrics(cls, episodes: Sequence[Episode], seats: Sequence[str] | None = None) -> dict[str, float]:
        """return: mean score, the same for both. invalid: share of answers unreadable or illegal, also per seat as
        "seat/invalid". length: mean number of decisions. zero: share of episodes that scored nothing."""
        return score_metrics(episodes, cls.seats, cls.seats if seats is None else seats)


def cooperative(view: SpielView, rng: random.Random) -> str:
    """Plays a card that fits whatever it is; else hints at one of the partner's that fits; else, with lives to spare
    and the deck almost gone, plays the likeliest to fit; else discards a useless card or its oldest; else hints."""
    seen = look(view.info)
    built = {stack[0]: int(stack[1:]) for stack in seen.fireworks.split()}
    names = {say.removeprefix("<answer>").removesuffix("</answer>"): say for say in view.say}
    chances, dead = {}, []
    for place, (_, colours, ranks, _) in enumerate(seen.own, 1):
        steps = [int(rank) - built[colour] for colour in colours for rank in ranks]
        chances[place] = steps.count(1) / len(steps)
        if max(steps) < 1:
            dead.append(place)
    likeliest = max(chances, key=chances.get)
    if chances[likeliest] == 1:
        return names[f"play {likeliest}"]
    for card, colours, ranks, _ in seen.partner:
        if built[card[0]] + 1 == int(card[1:]):
            choices = [f"hint {card[1:]}"] * (len(ranks) > 1) + [f"hint {COLOURS[card[0]]}"] * (len(colours) > 1)
            for name in choices:
                if name in names:
                    return names[name]
    if int(seen.lives) > 1 and int(seen.deck) <= 2 and chances[likeliest] > 0:
        return names[f"play {likeliest}"]
    for place in [*dead, 1]:
        if f"discard {place}" in names:
            return names[f"discard {place}"]
    hints = [say for name, say in names.items() if name.startswith("hint")]
    return rng.choice(hints or list(names.values()))


def careless(view: SpielView, rng: random.Random) -> str:
    """Plays any of its cards."""
    return rng.choice([say for say in view.say if "play" in say])


MiniHanabi.players = BASIC | {"cooperative": cooperative, "careless": careless}
