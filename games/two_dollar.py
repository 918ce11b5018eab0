"""Two-dollar negotiation: talk and offers in turn about 200 cents, with something else to fall back on.

What a seat gets without a deal is its secret. Each turn is a message and a move in one text: a proposal, the acceptance
of the other's last one, a pass, or the end of the talks. Deals pay what was agreed, in dollars; without one each seat
gets what it could fall back on. Each turn is a step of its own.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from marft.game import StepResult
from marft.games.roles import RolesGame, RolesOptions
from marft.games.table import PAIR, View
from marft.games.tally import Seen, tally
from marft.games.text import answer, before, between, count, quotable, whole

if TYPE_CHECKING:
    from marft.episode import Episode
    from marft.game import Player


class TwoDollarOptions(RolesOptions):
    """stake: cents to be split. fallback: the most a seat may get without a deal, drawn in steps of 5; 0 for none.

    turns: of both together in a round. message_limit: characters shown of what stands before the move.
    invalid: an unreadable turn is a `pass`, or makes an `end` of the talks.
    """

    rounds: int = Field(3, ge=1, le=1000, strict=True)
    stake: int = Field(200, ge=2, le=100_000, strict=True)
    fallback: int = Field(90, ge=0, strict=True)
    turns: int = Field(6, ge=2, le=100, strict=True)
    message_limit: int = Field(200, ge=1, le=4000, strict=True)
    invalid: Literal["pass", "end"] = "pass"

    @model_validator(mode="after")
    def _something_to_gain(self) -> TwoDollarOptions:
        if 2 * self.fallback >= self.stake:
            raise ValueError(f"fallback must be less than half of stake {self.stake}, got {self.fallback}")
        return self


def read_move(text: str, stake: int) -> str | int | None:
    """ "accept", "pass", "end", or what the speaker would keep in a proposal; None for anything else."""
    inner = between(text)
    if inner in ("accept", "pass", "end"):
        return inner
    word, _, number = (inner or "").partition(" ")
    return whole(number.strip(), 0, stake) if word == "propose" else None


def _bargainer(say: str, demand: Callable[[View], float], patience: float, doc: str) -> Player:
    """Accepts from `patience` of its demand on, and not less than its fallback; else proposes its demand."""

    def play(view: View, rng: random.Random) -> str:
        now = view.now
        wanted = min(now["stake"], max(round(demand(view)), now["fallback"]))
        if now["offered"] is not None and now["offered"] >= max(now["fallback"], patience * wanted):
            return f"Agreed. {answer('accept')}"
        return f"{say.format(**now)} {answer(f'propose {wanted}')}"

    play.__doc__ = doc
    return play


def _conceding(view: View) -> float:
    """From nine tenths down to a little more than the fallback."""
    now = view.now
    return now["fallback"] + (0.9 * now["stake"] - now["fallback"]) * now["left"] / now["turns"]


def impatient(view: View, rng: random.Random) -> str:
    """Proposes half once, and ends the talks if that, or as much, is not to be had."""
    now = view.now
    if now["offered"] is not None and now["offered"] * 2 >= now["stake"]:
        return f"Agreed. {answer('accept')}"
    if now["left"] <= now["turns"] - 2:
        return f"Enough. {answer('end')}"
    return f"Half each, or nothing. {answer('propose ' + str(now['stake'] // 2))}"


def erratic(view: View, rng: random.Random) -> str:
    """Any move there is."""
    moves = ["pass", f"propose {rng.randint(0, view.now['stake'])}"]
    if view.now["offered"] is not None:
        moves.append("accept")
    return f"Let us see. {answer(rng.choice(moves))}"


class TwoDollar(RolesGame):
    """See the module. One phase, "bargain"."""

    name = "two_dollar"
    Options: ClassVar[type[TwoDollarOptions]] = TwoDollarOptions
    phases = ("bargain", "bargain")
    players = {
        "fair": _bargainer("Half each is fair.", lambda view: view.now["stake"] / 2, 1.0, "Wants half."),
        "hard": _bargainer("I need more.", lambda view: view.now["stake"] * 0.8, 0.9, "Wants four fifths."),
        "soft": _bargainer("Take the larger part.", lambda view: view.now["fallback"] + 10, 1.0, "Wants little."),
        "conceding": _bargainer("I come towards you.", _conceding, 1.0, "Wants much at first, then ever less."),
        "candid": _bargainer(
            "Without a deal I get {fallback} cents.",
            lambda view: (view.now["stake"] + view.now["fallback"]) / 2,
            0.8,
            "Tells its secret and wants half of what is left beyond it.",
        ),
        "impatient": impatient,
        "random": erratic,
    }

    def _rules(self) -> str:
        o = self.options
        return (
            f"You play {count(o.rounds, 'round')}. In each you negotiate how "
            f"to split {o.stake} cents, in turn, {o.turns} turns in all. Without a deal each gets an amount that only "
            f"it knows. End each turn with one move: {answer('propose 120')} (you keep 120, the other gets the rest), "
            f"{answer('accept')} (the other's last proposal), {answer('pass')}, or {answer('end')} (no deal). What you "
            f"write before it is your message, at most {o.message_limit} characters. You earn your cents."
        )

    def _start(self, rng: random.Random) -> None:
        steps = self.options.fallback // 5 + 1
        self._fallbacks = tuple(
            (5 * rng.randrange(steps), 5 * rng.randrange(steps)) for _ in range(self.options.rounds)
        )
        super()._start(rng)

    def _open(self) -> None:
        self.offers: dict[str, int] = {}
        self.taken = 0
        super()._open()

    def _opening(self) -> tuple[str, str]:
        starts = "You begin.", f"{self.first} begins."
        return tuple(f"{self._secret(seat)} {s}" for seat, s in zip((self.first, self.second), starts, strict=True))

    def _secret(self, seat: str) -> str:
        # with the round's number, so that it is never what an earlier round told the other seat
        return f"{self._place()}: without a deal you get {self._fallback(seat)} cents."

    def _fallback(self, seat: str) -> int:
        return self._fallbacks[len(self.past)][PAIR.index(seat)]

    def _ask(self, seat: str) -> str:
        return "Your turn?"

    def _play(self, texts: Mapping[str, str]) -> StepResult:
        o, seat = self.options, self._turn[0]
        other = PAIR[1 - PAIR.index(seat)]
        move = read_move(texts[seat], o.stake)
        unread = move is None or (move == "accept" and other not in self.offers)
        if unread:
            move = o.invalid
            self.tell(f"Unreadable: {move} was played for you.", seat)
        said = quotable(before(texts[seat]), o.message_limit)
        if said:
            self.tell(f'{seat} says: "{said}"', other)
        self.taken += 1
        rewards: dict[str, float] = {}
        if isinstance(move, int):
            self.offers = {**self.offers, seat: move}
            self.tell(f"{seat} proposes: {move} for {seat}, {o.stake - move} for {other}.", other)
        elif move == "pass":
            self.tell(f"{seat} passes.", other)
        if move == "accept":
            keeps = self.offers[other]
            rewards = self._settle({other: keeps, seat: o.stake - keeps})
        elif move == "end" or self.taken == o.turns:
            rewards = self._settle(None)
        else:
            self._turn = (other,)
        self.clock += 1
        named = {"propose": move} if isinstance(move, int) else {"move": move}
        return StepResult(rewards, {seat: {**named, "message": said}}, (seat,) if unread else ())

    def _settle(self, deal: dict[str, int] | None) -> dict[str, float]:
        got = deal or {seat: self._fallback(seat) for seat in PAIR}
        for seat in PAIR:
            self.tell(f"{'Deal' if deal else 'No deal'}. You got {got[seat]} cents.", seat)
        fallbacks = dict(zip(PAIR, self._fallbacks[len(self.past)], strict=True))
        self.past.append({"first": self.first, "deal": deal, "fallbacks": fallbacks, "turns": self.taken})
        self._open()
        return {seat: got[seat] / 100 for seat in PAIR}

    def recalled(self, seat: str) -> tuple[Mapping[str, Any], ...]:
        """Per round: first, deal (cents per seat or None), turns."""
        return tuple({key: value for key, value in record.items() if key != "fallbacks"} for record in self.past)

    def known(self, seat: str) -> Mapping[str, Any]:
        """stake; fallback: own. offered: what the other's last proposal leaves this seat. left, turns: of the round."""
        o = self.options
        offer = self.offers.get(PAIR[1 - PAIR.index(seat)])
        return {
            "stake": o.stake,
            "fallback": self._fallback(seat) if self._turn else None,
            "offered": None if offer is None else o.stake - offer,
            "left": o.turns - self.taken,
            "turns": o.turns,
        }

    def private(self, seat: str) -> str | None:
        return self._secret(seat) if self._turn else None

    def facts(self) -> dict[str, Any]:
        """stake; per round: deals (cents per seat, or null), fallbacks, turns."""
        keys = {"deals": "deal", "fallbacks": "fallbacks", "turns": "turns"}
        lists = {key: [record[one] for record in self.past] for key, one in keys.items()}
        return {**super().facts(), "stake": self.options.stake, **lists}

    @classmethod
    def metrics(cls, episodes: Sequence[Episode], seats: Sequence[str] | None = None) -> dict[str, float]:
        """agreement: share of rounds with a deal. turns: mean of a round. share: own part of the stake, in deals.
        surplus_share: own part of what both gain in deals beyond their fallbacks. bad_deals: share of deals under the
        own fallback.
        """

        def look(episode: Episode) -> Iterator[Seen]:
            facts = episode.facts
            for deal, fallbacks, turns in zip(facts["deals"], facts["fallbacks"], facts["turns"], strict=True):
                yield None, "agreement", deal is not None
                yield None, "turns", turns
                for seat, cents in (deal or {}).items():
                    gain = cents - fallbacks[seat]
                    yield seat, "share", cents / facts["stake"]
                    yield seat, "surplus_share", gain / (facts["stake"] - sum(fallbacks.values()))
                    yield seat, "bad_deals", gain < 0

        return tally(episodes, seats, look, ("share", "surplus_share", "bad_deals"), ("agreement", "turns"))
