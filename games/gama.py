"""What six of the eight games of GAMA-Bench (arXiv 2403.11807) share: many seats choose at once, round after round.

Rules and scoring formulas are the benchmark's; the words are not. `score` runs from 0 to 100, over the decisions of
the seats that are looked at. Some scores reward selfish play (public goods, the diner's dilemma), so that the joint
payoff, `welfare`, stands beside each.
"""

from __future__ import annotations

import inspect
import random
from abc import abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from marft.game import StepResult
from marft.games.table import TableGame, TableOptions, many_seats
from marft.games.tally import Seen, acted, tally
from marft.games.text import amount, answer, count

if TYPE_CHECKING:
    from marft.episode import Episode


class GamaOptions(TableOptions):
    """seats: how many play."""

    seats: int = Field(10, ge=2, le=20, strict=True)
    rounds: int = Field(20, ge=1, le=1000, strict=True)


class GamaGame(TableGame):
    """One decision of all seats a round, in the phase "move". `past`: the moves of all, unless a game hides them."""

    Options: ClassVar[type[GamaOptions]] = GamaOptions
    measure: ClassVar[str]
    """Name of the metric that `measured` gives for each decision."""

    def __init__(self, options: GamaOptions | None = None) -> None:
        super().__init__(options)
        o = self.options
        self.seats = many_seats(o.seats)
        menu = self.menu()
        if isinstance(menu, range):
            how = f"a whole number from {menu[0]} to {menu[-1]}, as {answer(menu[len(menu) // 2])}"
        else:
            how = " or ".join(answer(word) for word in menu)
        self._rules = (
            f"one of {o.seats} players, {self.seats[0]} to {self.seats[-1]}, who play {count(o.rounds, 'round')} and "
            f"choose at once in each. {self.rules()} Answer with {how}."
        )

    @abstractmethod
    def menu(self) -> Sequence[Any]:
        """The moves."""

    @abstractmethod
    def rules(self) -> str:
        """What the moves bring."""

    @abstractmethod
    def pay(self, moves: Mapping[str, Any]) -> Mapping[str, float]:
        """Payoff per seat of one round."""

    @classmethod
    @abstractmethod
    def measured(cls, move: Any, seat: str, step: int, facts: Mapping[str, Any]) -> float | None:
        """A decision as a number; None where it has none. The docstring says what the mean of it is."""

    @classmethod
    @abstractmethod
    def score(cls, values: Sequence[float], facts: Mapping[str, Any], rounds: Sequence[Sequence[Any]]) -> float:
        """The benchmark's score, 0 to 1, of an episode. values: as measured, of the seats looked at. rounds: moves."""

    def deal(self, rng: random.Random) -> None:
        """Chance of the episode, where a game has some."""

    def report(self, moves: Mapping[str, Any]) -> str:
        """What all are told of a round."""
        return f"They chose: {', '.join(f'{seat} {move}' for seat, move in moves.items())}."

    def line(self, seat: str) -> str:
        """A round's first line."""
        return f"Round {self.clock + 1} of {self.options.rounds}."

    def _start(self, rng: random.Random) -> None:
        self.deal(rng)
        for seat in self.seats:
            self.tell(f"You are {seat}, {self._rules}", seat)
        self.phase = "move"
        self._open()

    def _open(self) -> None:
        self._turn = self.seats if len(self.past) < self.options.rounds else ()
        if self._turn:
            for seat in self.seats:
                self.tell(self.line(seat), seat)

    def _ask(self, seat: str) -> str:
        return "Your choice?"

    def _play(self, texts: Mapping[str, str]) -> StepResult:
        moves, unread = self.moves(texts, self.menu())
        rewards = {seat: float(value) for seat, value in self.pay(moves).items()}
        told = self.report(moves)
        for seat in self.seats:
            self.tell(f"{told} You earned {amount(rewards[seat])}.", seat)
        self.past.append({"moves": moves})
        self.clock += 1
        self._open()
        return StepResult(rewards, {seat: {"move": move} for seat, move in moves.items()}, unread)

    def choices(self, seat: str) -> Sequence[Any]:
        return self.menu()

    def facts(self) -> dict[str, Any]:
        """options: those of the rules, beside rounds and seats."""
        rules = self.options.model_dump(exclude={"rounds", "seats", "invalid"})
        return {**super().facts(), "options": rules}

    @classmethod
    def meanings(cls) -> dict[str, str]:
        return {**super().meanings(), cls.measure: inspect.getdoc(cls.measured) or ""}

    @classmethod
    def metrics(cls, episodes: Sequence[Episode], seats: Sequence[str] | None = None) -> dict[str, float]:
        """score: the benchmark's score, 0 to 100. Beside it the mean of what the game measures of each decision."""

        def look(episode: Episode) -> Iterator[Seen]:
            chosen: Collection[str] = episode.seats if seats is None else seats
            values, rounds = [], {}
            for turn, move in acted(episode, "move"):
                rounds.setdefault(turn.step, []).append(move)
                value = cls.measured(move, turn.seat, turn.step, episode.facts)
                if value is not None:
                    yield turn.seat, cls.measure, value
                    if turn.seat in chosen:
                        values.append(value)
            if values:
                yield None, "score", 100 * cls.score(values, episode.facts, list(rounds.values()))

        return tally(episodes, seats, look, (cls.measure,), ("score",))


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
