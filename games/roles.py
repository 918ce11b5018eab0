"""Two-seat games in which one moves first and the other answers, round after round, with changing roles."""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from marft.games.table import PAIR, TableGame, TableOptions


class RolesOptions(TableOptions):
    """roles: `alternate` from round to round, the first of them drawn; or `fixed`, with alice in the first role."""

    roles: Literal["alternate", "fixed"] = "alternate"


class RolesGame(TableGame):
    """Subclasses name their `phases` and write `_rules` and `_opening`."""

    Options: ClassVar[type[RolesOptions]] = RolesOptions
    phases: ClassVar[tuple[str, str]]

    @abstractmethod
    def _rules(self) -> str:
        """The rules, after who plays with whom."""

    @abstractmethod
    def _opening(self) -> tuple[str, str]:
        """A round's first line for the first and for the second role."""

    def _place(self) -> str:
        return f"Round {len(self.past) + 1} of {self.options.rounds}"

    def _start(self, rng: random.Random) -> None:
        self._drawn = rng.randrange(2) if self.options.roles == "alternate" else 0
        rules = self._rules()
        for seat, other in (PAIR, PAIR[::-1]):
            self.tell(f"You are {seat} and play with {other}. {rules}", seat)
        self._open()

    def _open(self) -> None:
        number = len(self.past)
        self.phase = self.phases[0]
        if number == self.options.rounds:
            self._turn = ()
            return
        place = (self._drawn + number * (self.options.roles == "alternate")) % 2
        self.first, self.second = PAIR[place], PAIR[1 - place]
        for seat, line in zip((self.first, self.second), self._opening(), strict=True):
            self.tell(line, seat)
        self._turn = (self.first,)

    def _pass_on(self, text: str) -> None:
        """It is the second role's move, who is told the text."""
        self.tell(text, self.second)
        self.phase, self._turn = self.phases[1], (self.second,)

    def _close(self, record: Mapping[str, Any]) -> None:
        self.past.append({"first": self.first, **record})
        self.clock += 1
        self._open()
