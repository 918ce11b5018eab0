"""Split without words: alice and bob claim hats, books and balls at once; what they are worth is open to both.

Each round every item is worth much or little to each, the same in all to both, and not the same item by item. Who asks
only for what it values more leaves the rest to the other. The proportional rule of Trust-and-Split holds per item.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, model_validator

from marft.game import StepResult
from marft.games.table import PAIR, TableGame, TableOptions, View
from marft.games.tally import Seen, acted, tally
from marft.games.text import PROPOSAL, amount, count, items_reader, items_text, plain
from marft.games.trust_and_split import split

if TYPE_CHECKING:
    from marft.episode import Episode

ITEMS = ("hat", "book", "ball")
READ = items_reader(ITEMS)
SIDES = tuple(
    (mine, theirs)
    for mine in product((True, False), repeat=len(ITEMS))
    for theirs in product((True, False), repeat=len(ITEMS))
    if mine != theirs and sum(mine) == sum(theirs)
)
"""Which items alice and bob value highly: equally many each, never the same ones. There are 12 such pairs."""


class SplitOptions(TableOptions):
    """quantity: of each item. high_value, low_value: what one piece is worth to a seat that values it, or does not."""

    quantity: int = Field(10, ge=1, le=1000, strict=True)
    high_value: float = Field(10.0, gt=0, le=1e6, strict=True)
    low_value: float = Field(1.0, ge=0, le=1e6, strict=True)

    @model_validator(mode="after")
    def _a_conflict(self) -> SplitOptions:
        if self.high_value <= self.low_value:
            raise ValueError(f"high_value must exceed low_value, got {self.high_value:g} and {self.low_value:g}")
        return self


class _Claims(Sequence[tuple[int, ...]]):
    """All claims of up to `quantity` pieces of each item, without a list of them."""

    def __init__(self, quantity: int) -> None:
        self.base = quantity + 1

    def __len__(self) -> int:
        return self.base ** len(ITEMS)

    def __getitem__(self, index: int) -> tuple[int, ...]:
        index %= len(self)
        return tuple(index // self.base**place % self.base for place in range(len(ITEMS)))


def propose(numbers: Sequence[int]) -> str:
    return f"{PROPOSAL} {items_text(ITEMS, numbers)}"


def _claims(view: View, same: int) -> list[int]:
    """All of what is worth more to oneself, nothing of what is worth less, `same` of the rest."""
    pairs = zip(view.now["values"], view.now["others"], strict=True)
    return [view.now["quantity"] if own > other else 0 if own < other else same for own, other in pairs]


def greedy(view: View, rng: random.Random) -> str:
    """All of everything."""
    return propose([view.now["quantity"]] * len(ITEMS))


def welfare(view: View, rng: random.Random) -> str:
    """All of what is worth more to it than to the other, none of what is worth less, half of the rest."""
    return propose(_claims(view, view.now["quantity"] // 2))


def equal(view: View, rng: random.Random) -> str:
    """Half of everything."""
    return propose([view.now["quantity"] // 2] * len(ITEMS))


def tit_for_tat(view: View, rng: random.Random) -> str:
    """As the welfare-maximiser, but all of everything after a round in which the other claimed what it valued less."""
    if view.past:
        last = view.past[-1]
        (other,) = (seat for seat in view.seats if seat != view.seat)
        mine, theirs = last["values"][view.seat], last["values"][other]
        if any(number for number, own, their in zip(last["claims"][other], mine, theirs, strict=True) if their < own):
            return greedy(view, rng)
    return welfare(view, rng)


def valued(view: View, rng: random.Random) -> str:
    """All of what it values highly, nothing of the rest, whatever the other values."""
    best = max(view.now["values"])
    return propose([view.now["quantity"] if value == best else 0 for value in view.now["values"]])


def erratic(view: View, rng: random.Random) -> str:
    """Any number of each."""
    return propose([rng.randint(0, view.now["quantity"]) for _ in ITEMS])


class Split(TableGame):
    """See the module. One decision each per round, at once."""

    name = "split"
    Options: ClassVar[type[SplitOptions]] = SplitOptions
    players = {
        "greedy": greedy,
        "welfare": welfare,
        "equal": equal,
        "tit_for_tat": tit_for_tat,
        "valued": valued,
        "random": erratic,
    }

    def __init__(self, options: SplitOptions | None = None) -> None:
        super().__init__(options)
        o = self.options
        self._values = [[[o.high_value if high else o.low_value for high in side] for side in deal] for deal in SIDES]
        self._rules = [
            f"You are {me}. You and {other} play {count(o.rounds, 'round')}. In each, "
            f"{items_text(ITEMS, [o.quantity] * 3)} are split, and both claim at once, without talk, how many of each "
            f"they want. If the claims for an item add up to more than {o.quantity}, each gets {o.quantity} × own "
            "claim / sum of claims of it, otherwise what it claimed. You earn what your items are worth to you; the "
            "worth changes every round, and both see it. Answer as "
            f'"{propose([o.quantity, 0, o.quantity // 2])}", in this order.'
            for me, other in (PAIR, PAIR[::-1])
        ]

    def _start(self, rng: random.Random) -> None:
        self._deals = tuple(rng.randrange(len(SIDES)) for _ in range(self.options.rounds))
        for seat, rules in zip(PAIR, self._rules, strict=True):
            self.tell(rules, seat)
        self._open()

    def _open(self) -> None:
        self.phase = "claim"
        self._turn = PAIR
        if len(self.past) == self.options.rounds:
            self._turn = ()
            return
        values = self._values[self._deals[self.clock]]
        for i, seat in enumerate(PAIR):
            worth = [
                ", ".join(f"{item} {plain(v)}" for item, v in zip(ITEMS, values[j], strict=True)) for j in (i, 1 - i)
            ]
            place = f"Round {self.clock + 1} of {self.options.rounds}."
            self.tell(f"{place} Worth to you: {worth[0]}. Worth to {PAIR[1 - i]}: {worth[1]}.", seat)

    def _ask(self, seat: str) -> str:
        return "Your proposal?"

    def _play(self, texts: Mapping[str, str]) -> StepResult:
        o = self.options
        values = self._values[self._deals[self.clock]]
        moves, unread = self.moves(texts, _Claims(o.quantity), lambda text: READ(text, [o.quantity] * 3))
        got = list(
            zip(*(split(o.quantity, pair) for pair in zip(*(moves[seat] for seat in PAIR), strict=True)), strict=True)
        )
        rewards = {}
        for i, seat in enumerate(PAIR):
            other = PAIR[1 - i]
            rewards[seat] = sum(value * number for value, number in zip(values[i], got[i], strict=True))
            self.tell(f"{other} claimed {items_text(ITEMS, moves[other])}; you earned {amount(rewards[seat])}.", seat)
        self.past.append({"values": dict(zip(PAIR, values, strict=True)), "claims": moves})
        self.clock += 1
        self._open()
        return StepResult(rewards, {seat: {"claim": list(moves[seat])} for seat in PAIR}, unread)

    def _named(self, move: Any) -> str:
        return items_text(ITEMS, move)

    def known(self, seat: str) -> Mapping[str, Any]:
        """values: own worth of each item. others: the other's. quantity: of each."""
        if not self._turn:
            return {}
        me = PAIR.index(seat)
        values = self._values[self._deals[self.clock]]
        return {"values": values[me], "others": values[1 - me], "quantity": self.options.quantity}

    def facts(self) -> dict[str, Any]:
        """values: [alice's, bob's] worth of hats, books, balls per round played."""
        values = [self._values[deal] for deal in self._deals[: len(self.past)]]
        return {**super().facts(), "quantity": self.options.quantity, "values": values}

    @classmethod
    def metrics(cls, episodes: Sequence[Episode], seats: Sequence[str] | None = None) -> dict[str, float]:
        """claim_more, claim_less, claim_same: mean claim of items that are worth more to oneself than to the other,
        less, or the same. split_efficiency: joint reward over the most there could be.
        """

        def look(episode: Episode) -> Iterator[Seen]:
            facts = episode.facts
            for turn, numbers in acted(episode, "claim"):
                me = PAIR.index(turn.seat)
                deal = facts["values"][turn.step]
                for number, own, other in zip(numbers, deal[me], deal[1 - me], strict=True):
                    yield (
                        turn.seat,
                        "claim_more" if own > other else "claim_less" if own < other else "claim_same",
                        number,
                    )
            if facts["played"]:
                best = sum(max(pair) for deal in facts["values"] for pair in zip(*deal, strict=True))
                yield None, "split_efficiency", sum(episode.returns().values()) / (best * facts["quantity"])

        return tally(episodes, seats, look, ("claim_more", "claim_less", "claim_same"), ("split_efficiency",))
