"""The pirate game of GAMA-Bench (arXiv 2403.11807): the most senior divides the gold, and goes if too few agree.

All others still aboard vote at once on the plan; the planner's own voice is for it. With at least half of all voices
the gold is divided so and the game is over; else the planner leaves with nothing and the next one plans. By backward
induction the best planner keeps all but one coin for every second one after it. A plan and its votes share a step.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, model_validator

from marft.game import StepResult
from marft.games.table import TableGame, TableOptions, View, many_seats
from marft.games.tally import Seen, acted, tally
from marft.games.text import answer, between, count, whole

if TYPE_CHECKING:
    from marft.episode import Episode
    from marft.game import Player

VOTES = ("accept", "reject")


class PiratesOptions(TableOptions):
    """seats: how many play, p1 the most senior; in each further round (a new game) all move up one place.

    gold: that is divided. Of an unreadable plan the `first` choice keeps all, the `last` gives all to the most junior.
    """

    seats: int = Field(10, ge=2, le=20, strict=True)
    rounds: int = Field(1, ge=1, le=1000, strict=True)
    gold: int = Field(100, ge=1, le=100_000, strict=True)

    @model_validator(mode="after")
    def _enough(self) -> PiratesOptions:
        if self.gold < self.seats:
            raise ValueError(f"gold must be at least the number of seats {self.seats}, got {self.gold}")
        return self


def best_plan(living: int, gold: int) -> list[int]:
    """What the planner does best, in order of seniority: one coin for every second one after it, the rest kept."""
    bribes = (living - 1) // 2
    return [gold - bribes, *(int(place % 2 == 0) for place in range(1, living))]


def best_vote(living: int, gold: int, place: int, share: int) -> str:
    """How the one at `place` (0 plans) votes best: for a plan that gives it more than it would get without."""
    return VOTES[share <= best_plan(living - 1, gold)[place - 1]]


def read_plan(text: str, living: int, gold: int) -> tuple[int, ...] | None:
    """Numbers in order of seniority that add up to the gold, between the answer marks."""
    parts = (between(text) or "").replace(",", " ").split()
    if len(parts) != living:
        return None
    numbers = tuple(whole(part, 0, gold) for part in parts)
    return None if None in numbers or sum(numbers) != gold else numbers


def even_plan(living: int, gold: int) -> list[int]:
    share = gold // living
    return [gold - share * (living - 1), *[share] * (living - 1)]


def _player(plan: Callable[[int, int], Sequence[int]], least: Callable[[View], float], doc: str) -> Player:
    """plan: from how many are left and the gold. least: the share from which on it accepts."""

    def play(view: View, rng: random.Random) -> str:
        if view.phase == "plan":
            return answer(" ".join(map(str, plan(len(view.now["living"]), view.now["gold"]))))
        return answer(VOTES[view.now["share"] < least(view)])

    play.__doc__ = doc
    return play


def _even_share(view: View) -> float:
    return view.now["gold"] // len(view.now["living"])


def _better(view: View) -> float:
    """One more than it would get without."""
    living = view.now["living"]
    return 1 + best_plan(len(living) - 1, view.now["gold"])[living.index(view.seat) - 1]


def erratic(view: View, rng: random.Random) -> str:
    """Any plan, any vote."""
    if view.phase == "vote":
        return answer(rng.choice(VOTES))
    gold, living = view.now["gold"], len(view.now["living"])
    cuts = sorted(rng.randint(0, gold) for _ in range(living - 1))
    return answer(" ".join(str(b - a) for a, b in zip([0, *cuts], [*cuts, gold], strict=True)))


class Pirates(TableGame):
    """See the module. Phases: "plan", "vote". `past`: one record per plan."""

    name = "pirates"
    Options: ClassVar[type[PiratesOptions]] = PiratesOptions
    players = {
        "best": _player(best_plan, _better, "Plans and votes as backward induction says."),
        "even": _player(even_plan, _even_share, "Divides evenly, and accepts no less than an even share."),
        "greedy": _player(
            lambda living, gold: [gold, *[0] * (living - 1)], lambda view: 1, "Keeps all, accepts any coin."
        ),
        "meek": _player(even_plan, lambda view: 0, "Divides evenly, accepts everything."),
        "mutinous": _player(best_plan, lambda view: view.now["gold"], "Plans well, accepts nothing but all the gold."),
        "random": erratic,
    }

    def __init__(self, options: PiratesOptions | None = None) -> None:
        super().__init__(options)
        o = self.options
        self.seats = many_seats(o.seats)
        moving = " After each, all move up one place in the order and the first becomes the last." * (o.rounds > 1)
        self._rules = (
            f"one of {o.seats} pirates who divide {o.gold} gold, {count(o.rounds, 'time')}.{moving} The most senior "
            "one still aboard plans who gets how much; all others vote. If at least half of those aboard, planner "
            "included, are for the plan, it is carried out; else the planner is thrown overboard with nothing, and the "
            f"next one plans. Plan with a whole number for each aboard, in order, that add up to {o.gold}: for two "
            f"aboard, {answer(f'{o.gold - 1} 1')}. Vote by {answer('accept')} or {answer('reject')}."
        )

    def _start(self, rng: random.Random) -> None:
        self._games = 0
        for seat in self.seats:
            self.tell(f"You are {seat}, {self._rules}", seat)
        self._board()

    def _board(self) -> None:
        """A new game, if there is one left to play."""
        first = self._games % len(self.seats)
        self.living = self.seats[first:] + self.seats[:first]
        self.plan: tuple[int, ...] = ()
        self.phase = "plan"
        self._turn = self.living[:1] if self._games < self.options.rounds else ()
        if self._turn:
            self.tell(f"Game {self._games + 1} of {self.options.rounds}. In order: {', '.join(self.living)}.")

    def _ask(self, seat: str) -> str:
        return f"Aboard: {', '.join(self.living)}. Your plan?" if self.phase == "plan" else "Your vote?"

    def choices(self, seat: str) -> Sequence[Any]:
        """Votes; of plans only those which give all to one."""
        if self.phase == "vote":
            return VOTES
        living, gold = len(self.living), self.options.gold
        return [tuple(gold * (i == j) for j in range(living)) for i in range(living)]

    def _play(self, texts: Mapping[str, str]) -> StepResult:
        planner, *others = self.living
        if self.phase == "plan":
            living, gold = len(self.living), self.options.gold
            moves, unread = self.moves(texts, self.choices(planner), lambda text: read_plan(text, living, gold))
            self.plan = moves[planner]
            plan = ", ".join(f"{seat} {share}" for seat, share in zip(self.living, self.plan, strict=True))
            self.tell(f"{planner} plans: {plan}.", *others)
            self.phase, self._turn = "vote", tuple(others)
            return StepResult({}, {planner: {"plan": list(self.plan)}}, unread)
        votes, unread = self.moves(texts, VOTES)
        ayes = 1 + sum(vote == "accept" for vote in votes.values())
        accepted = 2 * ayes >= len(self.living)
        self.past.append({"living": self.living, "plan": self.plan, "accepted": accepted})
        end = "the plan is carried out" if accepted else f"{planner} goes overboard"
        self.tell(f"{ayes} of {len(self.living)} are for it: {end}.", *self.living)
        rewards: dict[str, float] = {}
        self.living, self.phase = tuple(others), "plan"
        if accepted:
            rewards = {seat: float(share) for seat, share in zip((planner, *others), self.plan, strict=True)}
        elif len(others) == 1:
            rewards = {others[0]: float(self.options.gold)}
        self.clock += 1
        self._turn = tuple(others[:1])
        if rewards:
            self._games += 1
            self._board()
        return StepResult(rewards, {seat: {"vote": vote} for seat, vote in votes.items()}, unread)

    def _named(self, move: Any) -> str:
        return move if isinstance(move, str) else " ".join(map(str, move))

    def rounds_over(self) -> int:
        return self._games

    def recalled(self, seat: str) -> tuple[Mapping[str, Any], ...]:
        """The plans made while it was aboard."""
        return tuple(record for record in self.past if seat in record["living"])

    def known(self, seat: str) -> Mapping[str, Any]:
        """living: in order of seniority. gold. share: own, in the plan that is voted on."""
        voting = self.phase == "vote" and seat in self.living
        share = self.plan[self.living.index(seat)] if voting else None
        return {"living": self.living, "gold": self.options.gold, "share": share}

    def facts(self) -> dict[str, Any]:
        """Per plan: living (in order), plans, accepted; gold."""
        return {
            **super().facts(),
            "gold": self.options.gold,
            "living": [list(record["living"]) for record in self.past],
            "plans": [list(record["plan"]) for record in self.past],
            "accepted": [record["accepted"] for record in self.past],
        }

    @classmethod
    def metrics(cls, episodes: Sequence[Episode], seats: Sequence[str] | None = None) -> dict[str, float]:
        """plan_match: 1 less the distance of a plan from the best, over its largest. vote_accuracy: share of votes that
        are best. score: mean of the two, 0 to 100, or the one that there is. accepted: share
        of plans.
        """

        def look(episode: Episode) -> Iterator[Seen]:
            facts, gold = episode.facts, episode.facts["gold"]
            for turn, plan in acted(episode, "plan"):
                away = sum(abs(a - b) for a, b in zip(plan, best_plan(len(plan), gold), strict=True))
                yield turn.seat, "plan_match", 1 - away / (2 * gold)
            for turn, vote in acted(episode, "vote"):
                living, plan = facts["living"][turn.step], facts["plans"][turn.step]
                place = living.index(turn.seat)
                yield turn.seat, "vote_accuracy", vote == best_vote(len(living), gold, place, plan[place])
            for accepted in facts["accepted"]:
                yield None, "accepted", accepted

        found = tally(episodes, seats, look, ("plan_match", "vote_accuracy"), ("accepted",))
        parts = [found[key] for key in ("plan_match", "vote_accuracy") if found[key] == found[key]]
        return {"score": 100 * sum(parts) / len(parts) if parts else float("nan"), **found}
