"""Trust-and-Split (arXiv 2511.19405): talk about hidden hands, then claim coins that are worth more to one of two.

Each round alice and bob are dealt different hands of rock, paper, scissors. To the one whose hand wins a coin is worth
much, to the other little; each sees only its own hand. One message each, in turn, then both claim coins at once. Who
trusts and yields makes the table rich; who lies or grabs is richer for a round. Messages and claims of a round share
its clock.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from itertools import permutations
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, model_validator

from marft.game import StepResult
from marft.games.table import PAIR, TableGame, TableOptions, View
from marft.games.tally import Seen, acted, tally
from marft.games.text import amount, between, count, decimal, plain, quotable

if TYPE_CHECKING:
    from marft.episode import Episode

HANDS = ("rock", "paper", "scissors")
BEATS = {("rock", "scissors"), ("scissors", "paper"), ("paper", "rock")}
MESSAGE = ("<<message_start>>", "<<message_end>>")
PROPOSAL = ("<<proposal_start>>", "<<proposal_end>>")
DEALS = tuple(permutations(HANDS, 2))


class TrustAndSplitOptions(TableOptions):
    """coins: how many are split each round. upper_value, lower_value: a coin's worth to the winning and losing hand.

    alternating_hands: in every second round the hands of the round before change sides, so that each seat holds the
        winning hand equally often. reveal_claim: whether a seat is told the other's last claim (and so what it got).
    message_limit: characters of a message that are shown. An unreadable message is no message, and counts as invalid.
    """

    coins: int = Field(10, ge=1, le=1000, strict=True)
    upper_value: float = Field(10.0, gt=0, le=1e6, strict=True)
    lower_value: float = Field(1.0, ge=0, le=1e6, strict=True)
    alternating_hands: bool = False
    reveal_claim: bool = True
    message_limit: int = Field(500, ge=1, le=4000, strict=True)

    @model_validator(mode="after")
    def _worth_trusting(self) -> TrustAndSplitOptions:
        if self.upper_value <= self.lower_value:
            raise ValueError(f"upper_value must exceed lower_value, got {self.upper_value:g} and {self.lower_value:g}")
        return self


def split(coins: int, claims: Sequence[float]) -> tuple[float, ...]:
    """Coins each gets: what it claimed, or in proportion where the claims exceed the coins."""
    scale = max(coins, sum(claims))
    return tuple(coins * claim / scale for claim in claims)


def say(text: str) -> str:
    return f"{MESSAGE[0]}{text}{MESSAGE[1]}"


def claim(number: float) -> str:
    return f"{PROPOSAL[0]}{amount(number)}{PROPOSAL[1]}"


def _upper(view: View) -> bool | None:
    """Whether the own hand wins over the one the other says it has; None where it names none, or one it cannot have."""
    heard = (view.now["heard"] or "").lower()
    named = [hand for hand in HANDS if hand in heard]
    if len(named) != 1 or named[0] == view.now["hand"]:
        return None
    return (view.now["hand"], named[0]) in BEATS


def greedy(view: View, rng: random.Random) -> str:
    """Says that it wins, whatever it holds, and claims all."""
    return say("My hand wins.") if view.phase == "talk" else claim(view.now["coins"])


def welfare(view: View, rng: random.Random) -> str:
    """Tells its hand; claims all with the winning hand, nothing with the losing one, half where it cannot know."""
    if view.phase == "talk":
        return say(f"I hold {view.now['hand']}.")
    upper = _upper(view)
    return claim(view.now["coins"] / 2 if upper is None else view.now["coins"] * upper)


def equal(view: View, rng: random.Random) -> str:
    """Claims half, always."""
    return say("Half each.") if view.phase == "talk" else claim(view.now["coins"] / 2)


def tit_for_tat(view: View, rng: random.Random) -> str:
    """As the welfare-maximiser, but claims all after a round in which the other claimed coins with the losing hand."""
    if view.phase == "claim" and view.past:
        last = view.past[-1]
        grabbed = any(number > 0 for seat, number in last["claims"].items() if seat not in (view.seat, last["upper"]))
        if grabbed:
            return claim(view.now["coins"])
    return welfare(view, rng)


def erratic(view: View, rng: random.Random) -> str:
    """Tells its hand or another, and claims any number."""
    return say(f"I hold {rng.choice(HANDS)}.") if view.phase == "talk" else claim(rng.randint(0, view.now["coins"]))


class TrustAndSplit(TableGame):
    """See the module. Phases: "talk", first the one who speaks first, then the other; "claim"."""

    name = "trust_and_split"
    Options: ClassVar[type[TrustAndSplitOptions]] = TrustAndSplitOptions
    players = {
        "greedy": greedy,
        "welfare": welfare,
        "equal": equal,
        "tit_for_tat": tit_for_tat,
        "random": erratic,
    }

    def __init__(self, options: TrustAndSplitOptions | None = None) -> None:
        super().__init__(options)
        o = self.options
        swap = " In every second round the hands of the round before change sides." * o.alternating_hands
        self._rules = [
            f"You are {me}. You and {other} play {count(o.rounds, 'round')}. In each, both are dealt "
            "different hands of rock, paper, scissors; you see only your own. Rock beats scissors, scissors beats "
            f"paper, paper beats rock. To the winning hand a coin is worth {plain(o.upper_value)}, to the losing hand "
            f"{plain(o.lower_value)}.{swap} Each round you send one message each, in turn; then both claim at once "
            f"between 0 and {o.coins} of {o.coins} coins. If the claims add up to more than {o.coins}, each gets "
            f"{o.coins} × own claim / sum of claims, otherwise what it claimed. You earn your coins × their worth to "
            f"you. Write a message, at most {o.message_limit} characters, as {say('Hello.')} and a claim as "
            f"{claim(o.coins // 2)}."
            for me, other in (PAIR, PAIR[::-1])
        ]

    def _start(self, rng: random.Random) -> None:
        o = self.options
        deals: list[tuple[str, str]] = []
        for number in range(o.rounds):
            swap = o.alternating_hands and number % 2
            deals.append(deals[-1][::-1] if swap else DEALS[rng.randrange(len(DEALS))])
        self._deals = tuple(deals)
        self._first = rng.randrange(2)
        for seat, rules in zip(PAIR, self._rules, strict=True):
            self.tell(rules, seat)
        self._open()

    def _open(self) -> None:
        self.heard: dict[str, str] = {}
        self._spoken = 0
        if len(self.past) == self.options.rounds:
            self._turn = ()
            return
        for seat, hand in zip(PAIR, self._deals[self.clock], strict=True):
            self.tell(f"Round {self.clock + 1} of {self.options.rounds}. Your hand: {hand}.", seat)
        self.phase = "talk"
        self._turn = (PAIR[(self._first + self.clock) % 2],)

    def _ask(self, seat: str) -> str:
        return "Your message?" if self.phase == "talk" else "Your claim?"

    def _play(self, texts: Mapping[str, str]) -> StepResult:
        return self._hear(texts) if self.phase == "talk" else self._split(texts)

    def _hear(self, texts: Mapping[str, str]) -> StepResult:
        (seat,) = self._turn
        other = PAIR[1 - PAIR.index(seat)]
        inner = between(texts[seat], MESSAGE, limit=len(texts[seat]))
        said = quotable(inner or "", self.options.message_limit)
        if inner is None:
            self.tell("Unreadable: no message was sent for you.", seat)
            self.tell(f"{seat} sends no message.", other)
        else:
            self.tell(f'{seat} says: "{said}"', other)
        self.heard[other] = said
        self._spoken += 1
        self._turn = (other,) if self._spoken == 1 else PAIR
        self.phase = "talk" if self._spoken == 1 else "claim"
        return StepResult({}, {seat: {"say": said}}, (seat,) if inner is None else ())

    def _split(self, texts: Mapping[str, str]) -> StepResult:
        o, hands = self.options, self._deals[self.clock]
        moves, unread = self.moves(texts, range(o.coins + 1), lambda text: decimal(between(text, PROPOSAL), 0, o.coins))
        claims = [moves[seat] for seat in PAIR]
        upper = 0 if hands in BEATS else 1
        coins = split(o.coins, claims)
        rewards = {}
        for i, seat in enumerate(PAIR):
            rewards[seat] = coins[i] * (o.upper_value if i == upper else o.lower_value)
            status = f"{PAIR[1 - i]} had the {'losing' if i == upper else 'winning'} hand"
            gain = f"; you got {amount(coins[i])} coins worth {amount(rewards[seat])}" * o.reveal_claim
            told = f" and claimed {amount(claims[1 - i])}" * o.reveal_claim
            self.tell(f"Last round {status}{told}{gain}.", seat)
        self.past.append({"hands": dict(zip(PAIR, hands, strict=True)), "claims": moves, "upper": PAIR[upper]})
        self.clock += 1
        self._open()
        return StepResult(rewards, {seat: {"claim": moves[seat]} for seat in PAIR}, unread)

    def recalled(self, seat: str) -> tuple[Mapping[str, Any], ...]:
        """Per round: upper (who had the winning hand), hand (own), claims (per seat; the other's only if revealed)."""
        shown = PAIR if self.options.reveal_claim else (seat,)
        return tuple(
            {"upper": r["upper"], "hand": r["hands"][seat], "claims": {s: r["claims"][s] for s in shown}}
            for r in self.past
        )

    def known(self, seat: str) -> Mapping[str, Any]:
        """hand: own. heard: the other's message of this round, once sent. coins."""
        hand = self._deals[self.clock][PAIR.index(seat)] if self._turn else None
        return {"hand": hand, "heard": self.heard.get(seat), "coins": self.options.coins}

    def choices(self, seat: str) -> Sequence[Any]:
        return range(self.options.coins + 1) if self.phase == "claim" else ()

    def private(self, seat: str) -> str | None:
        return f"Your hand: {self._deals[self.clock][PAIR.index(seat)]}." if self._turn else None

    def facts(self) -> dict[str, Any]:
        """upper: who had the winning hand, hands: [alice's, bob's], per round played; and what coins were worth."""
        o = self.options
        return {
            **super().facts(),
            "coins": o.coins,
            "values": [o.upper_value, o.lower_value],
            "first": PAIR[self._first],
            "hands": [list(deal) for deal in self._deals[: len(self.past)]],
            "upper": [record["upper"] for record in self.past],
        }

    @classmethod
    def metrics(cls, episodes: Sequence[Episode], seats: Sequence[str] | None = None) -> dict[str, float]:
        """claim_high, claim_low: mean claim with the winning and the losing hand. split_efficiency: joint reward over
        what it is when the winning hand takes all coins. invalid counts messages without their marks too.
        """

        def look(episode: Episode) -> Iterator[Seen]:
            facts = episode.facts
            for turn, number in acted(episode, "claim"):
                high = facts["upper"][turn.step] == turn.seat
                yield turn.seat, "claim_high" if high else "claim_low", number
            if facts["played"]:
                best = facts["played"] * facts["coins"] * facts["values"][0]
                yield None, "split_efficiency", sum(episode.returns().values()) / best

        return tally(episodes, seats, look, ("claim_high", "claim_low"), ("split_efficiency",), lambda turn: True)
