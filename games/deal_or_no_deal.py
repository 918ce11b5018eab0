"""Deal or no deal (Lewis et al. 2017): talk about who takes which of a few items, then say it without seeing the other.

Both know what there is; what it is worth to them is their secret and sums to 10 for each. After the talk both write
what they take, at once; both are paid if the two together are all there is, else neither. The 1000 instances are those
that come with OpenSpiel's "bargaining", which must be installed. Each message is a step, and so are the proposals.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import product
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from marft.errors import RecipeError
from marft.game import StepResult
from marft.games.table import PAIR, TableGame, TableOptions, View
from marft.games.tally import Seen, tally
from marft.games.text import PROPOSAL, count, items_reader, items_text

if TYPE_CHECKING:
    from marft.episode import Episode

ITEMS = ("book", "hat", "ball")
READ = items_reader(ITEMS)
WORTH = re.compile(r"a book is worth ([0-9]{1,2}), a hat ([0-9]{1,2}), a ball ([0-9]{1,2})\b")

Numbers = tuple[int, ...]


@cache
def instances() -> tuple[tuple[Numbers, Numbers, Numbers], ...]:
    """(what there is, its worth to one, its worth to the other), each for books, hats, balls.

    Raises RecipeError where OpenSpiel is not installed.
    """
    try:
        import pyspiel
    except ImportError as error:
        raise RecipeError(
            "game deal_or_no_deal takes its instances from OpenSpiel, which cannot be imported "
            f"({error}): pip install 'marft[games]'"
        ) from error
    found = pyspiel.load_game("bargaining").all_instances()
    return tuple((tuple(one.pool), *(tuple(values) for values in one.values)) for one in found)


class DealOptions(TableOptions):
    """rounds: instances played, one after the other. turns: messages of both together in each; 0 for none.

    leftovers: whether proposals that together leave items over are a deal too. message_limit: characters of a message
        that are shown.
    """

    rounds: int = Field(1, ge=1, le=1000, strict=True)
    turns: int = Field(6, ge=0, le=100, strict=True)
    leftovers: bool = False
    message_limit: int = Field(200, ge=1, le=4000, strict=True)


def worth(values: Sequence[int], numbers: Sequence[int]) -> int:
    return sum(value * number for value, number in zip(values, numbers, strict=True))


def takes(pool: Sequence[int]) -> list[Numbers]:
    """All that one of the two could take, nothing first, all last."""
    return list(product(*(range(number + 1) for number in pool)))


def rest(pool: Sequence[int], numbers: Sequence[int]) -> Numbers:
    return tuple(there - taken for there, taken in zip(pool, numbers, strict=True))


def outcomes(pool: Sequence[int], mine: Sequence[int], theirs: Sequence[int]) -> list[tuple[int, int]]:
    """What both earn in every division of all there is."""
    return [(worth(mine, take), worth(theirs, rest(pool, take))) for take in takes(pool)]


def propose(numbers: Sequence[int]) -> str:
    return f"{PROPOSAL} {items_text(ITEMS, numbers)}"


def _demand(view: View, least: int) -> Numbers:
    """The fewest items that are worth `least` to it."""
    enough = [take for take in takes(view.now["pool"]) if worth(view.now["values"], take) >= least]
    return min(enough, key=lambda take: (sum(take), -worth(view.now["values"], take), take))


def _offered(view: View) -> Numbers | None:
    """What the other's last proposal leaves."""
    found = [READ(text, view.now["pool"]) for seat, text in view.now["talk"] if seat != view.seat]
    found = [numbers for numbers in found if numbers is not None]
    return rest(view.now["pool"], found[-1]) if found else None


def _talker(least: int, yields: int | None, doc: str) -> Any:
    """Says what it wants, worth `least` to it; takes what the other leaves if that is worth `yields` to it."""

    def play(view: View, rng: random.Random) -> str:
        offered = _offered(view)
        happy = yields is not None and offered is not None and worth(view.now["values"], offered) >= yields
        take = offered if happy else _demand(view, least)
        return f"I take this. {propose(take)}" if view.phase == "talk" else propose(take)

    play.__doc__ = doc
    return play


def candid(view: View, rng: random.Random) -> str:
    """Tells its values; takes its part of the division that pays both most together, if the other told its own."""
    values, pool = view.now["values"], view.now["pool"]
    if view.phase == "talk":
        told = ", a ".join(
            f"{item} {'is worth ' * (item == ITEMS[0])}{v}" for item, v in zip(ITEMS, values, strict=True)
        )
        return f"To me a {told}."
    heard = [WORTH.search(text[:400]) for seat, text in view.now["talk"] if seat != view.seat]
    if not heard or heard[-1] is None:
        return propose(_offered(view) or _demand(view, 5))
    theirs = [int(number) for number in heard[-1].groups()]
    first, second = (values, theirs) if view.seat == PAIR[0] else (theirs, values)

    def merit(take: Numbers) -> tuple[int, int, Numbers]:
        pays = worth(first, take), worth(second, rest(pool, take))
        return sum(pays), min(pays), take

    best = max(takes(pool), key=merit)
    return propose(best if view.seat == PAIR[0] else rest(pool, best))


def erratic(view: View, rng: random.Random) -> str:
    """Takes anything, and says so or something else."""
    take = propose(rng.choice(takes(view.now["pool"])))
    return take if view.phase == "propose" else rng.choice([f"I take this. {take}", "What do you want?"])


class DealOrNoDeal(TableGame):
    """See the module. Phases: "talk", in turn; "propose", at once."""

    name = "deal_or_no_deal"
    Options: ClassVar[type[DealOptions]] = DealOptions
    players = {
        "candid": candid,
        "fair": _talker(5, 4, "Wants half of its worth, and takes what the other leaves if that is nearly as much."),
        "greedy": _talker(10, None, "Wants all that is worth something to it."),
        "firm": _talker(7, 7, "Wants much, and takes no less."),
        "yielding": _talker(4, 0, "Takes whatever the other leaves."),
        "random": erratic,
    }

    def __init__(self, options: DealOptions | None = None) -> None:
        super().__init__(options)
        o = self.options
        self._instances = instances()
        talk = f"First you talk, {count(o.turns, 'message')} in all in turn, then" if o.turns else "Without talk"
        leave = "do not ask for more than there is" if o.leftovers else "are exactly all there is"
        self._rules = (
            f"You play {count(o.rounds, 'round')}. In each, a few books, hats and balls are divided. What they are "
            "worth to each is secret, and all together are worth 10 to each. "
            f"{talk} both write at once what they take. If both proposals together {leave}, you earn what your items "
            f'are worth to you, else both earn nothing. Write what you take as "{propose((1, 0, 2))}", in this order.'
            + f" At most {o.message_limit} characters of a message are shown."
            * (o.turns > 0)
        )

    def _start(self, rng: random.Random) -> None:
        deals = []
        for _ in range(self.options.rounds):
            pool, *values = self._instances[rng.randrange(len(self._instances))]
            rng.shuffle(values)
            deals.append((pool, *values))
        self._deals = tuple(deals)
        self._first = rng.randrange(2)
        for seat, other in (PAIR, PAIR[::-1]):
            self.tell(f"You are {seat} and play with {other}. {self._rules}", seat)
        self._open()

    def _open(self) -> None:
        number, o = len(self.past), self.options
        self.talk: list[tuple[str, str]] = []
        self.phase = "talk" if o.turns else "propose"
        if number == o.rounds:
            self._turn = ()
            return
        for seat in PAIR:
            there = items_text(ITEMS, self._deals[number][0])
            self.tell(f"Round {number + 1} of {o.rounds}: there are {there}. {self._secret(seat)}", seat)
        self._turn = (PAIR[(self._first + number) % 2],) if o.turns else PAIR

    def _secret(self, seat: str) -> str:
        values = self._deals[len(self.past)][1 + PAIR.index(seat)]
        worths = ", ".join(f"{item} {value}" for item, value in zip(ITEMS, values, strict=True))
        return f"Worth to you each: {worths}."

    def _ask(self, seat: str) -> str:
        return "Your message?" if self.phase == "talk" else "Your proposal?"

    def _play(self, texts: Mapping[str, str]) -> StepResult:
        if self.phase == "talk":
            (seat,) = self._turn
            result = self.converse(texts)
            self.talk.append((seat, result.actions[seat]["say"]))
            self._turn = (PAIR[1 - PAIR.index(seat)],)
            if len(self.talk) == self.options.turns:
                self.phase, self._turn = "propose", PAIR
            self.clock += 1
            return result
        pool, *values = self._deals[len(self.past)]
        moves, unread = self.moves(texts, takes(pool), lambda text: READ(text, pool))
        left = [there - sum(taken) for there, *taken in zip(pool, *moves.values(), strict=True)]
        deal = min(left) >= 0 and (self.options.leftovers or max(left) == 0)
        rewards = {}
        for i, seat in enumerate(PAIR):
            rewards[seat] = float(deal * worth(values[i], moves[seat]))
            other = PAIR[1 - i]
            outcome = f"a deal; you earned {int(rewards[seat])}" if deal else "no deal"
            self.tell(f"{other} proposed to take {items_text(ITEMS, moves[other])}: {outcome}.", seat)
        self.past.append({"taken": moves, "deal": deal})
        self.clock += 1
        self._open()
        return StepResult(rewards, {seat: {"propose": list(take)} for seat, take in moves.items()}, unread)

    def _named(self, move: Any) -> str:
        return items_text(ITEMS, move)

    def choices(self, seat: str) -> Sequence[Any]:
        return takes(self._deals[len(self.past)][0]) if self._turn and self.phase == "propose" else ()

    def known(self, seat: str) -> Mapping[str, Any]:
        """pool: what there is. values: own worth of each. talk: (seat, what was shown of its message) so far."""
        if not self._turn:
            return {}
        pool, *values = self._deals[len(self.past)]
        return {"pool": pool, "values": values[PAIR.index(seat)], "talk": tuple(self.talk)}

    def private(self, seat: str) -> str | None:
        return self._secret(seat) if self._turn else None

    def facts(self) -> dict[str, Any]:
        """Per round: pool, values ([alice's, bob's]), taken ([alice's, bob's]), deal."""
        deals = self._deals[: len(self.past)]
        return {
            **super().facts(),
            "pool": [list(pool) for pool, *_ in deals],
            "values": [[list(one) for one in values] for _, *values in deals],
            "taken": [[list(record["taken"][seat]) for seat in PAIR] for record in self.past],
            "deal": [record["deal"] for record in self.past],
        }

    @classmethod
    def metrics(cls, episodes: Sequence[Episode], seats: Sequence[str] | None = None) -> dict[str, float]:
        """agreement: share of rounds with a deal. efficiency: joint value over the most there could be, 0 where there
        was no deal. pareto: share of deals that leave neither more to gain without a loss to the other. demand: what a
        seat's proposals are worth to it, deal or not.
        """

        def look(episode: Episode) -> Iterator[Seen]:
            f = episode.facts
            for pool, values, taken, deal in zip(f["pool"], f["values"], f["taken"], f["deal"], strict=True):
                pays = [worth(one, take) for one, take in zip(values, taken, strict=True)]
                there = outcomes(pool, *values)
                yield None, "agreement", deal
                yield None, "efficiency", deal * sum(pays) / max(map(sum, there))
                if deal:
                    a, b = pays
                    yield None, "pareto", not any(x >= a and y >= b and (x, y) != (a, b) for x, y in there)
                for seat, pay in zip(PAIR, pays, strict=True):
                    yield seat, "demand", pay

        return tally(episodes, seats, look, ("demand",), ("agreement", "efficiency", "pareto"))
