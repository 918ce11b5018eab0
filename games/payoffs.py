"""Payoff tables of the 2x2 matrix games, and the inequalities that make each the game it is called.

Payoffs are checked when the options are read: a table that breaks its preset's rule is refused, not played.
Symmetric games use the letters of the literature: R both choose action 0, P both choose 1, S and T what one who
chooses 0 and one who chooses 1 get when they differ.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

Number = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=-1e9, le=1e9)]
Pair = tuple[float, float]


class Payoffs(BaseModel):
    """Payoffs of one preset by name; `rule` is what they must satisfy."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    rule: ClassVar[str]

    def holds(self) -> bool:
        """Whether `rule` is satisfied."""
        raise NotImplementedError

    def cells(self) -> tuple[Pair, Pair, Pair, Pair]:
        """(alice's, bob's) payoff where they choose 0 0, 0 1, 1 0, 1 1."""
        raise NotImplementedError

    @model_validator(mode="after")
    def _check(self) -> Payoffs:
        if not self.holds():
            got = ", ".join(f"{name} = {value:g}" for name, value in self)
            raise ValueError(f"needs {self.rule}, got {got}")
        return self


class Symmetric(Payoffs):
    """Both seats have the same payoffs.

    R: of both where both choose action 0. P: of both where both choose 1. S: of who chooses 0 where the other chooses
        1. T: of who chooses 1 where the other chooses 0.
    """

    R: Number
    S: Number
    T: Number
    P: Number

    def cells(self) -> tuple[Pair, Pair, Pair, Pair]:
        return (self.R, self.R), (self.S, self.T), (self.T, self.S), (self.P, self.P)


class PrisonersDilemma(Symmetric):
    """Action 1 is better whatever the other does, yet both are better off with 0, also than by taking turns."""

    rule = "T > R > P > S and 2R > T + S"
    R: Number = 3.0
    S: Number = 0.0
    T: Number = 5.0
    P: Number = 1.0

    def holds(self) -> bool:
        return self.T > self.R > self.P > self.S and 2 * self.R > self.T + self.S


class StagHunt(Symmetric):
    """Both on action 0 is best for both, but only action 1 is safe."""

    rule = "R > T >= P > S"
    R: Number = 4.0
    S: Number = 0.0
    T: Number = 3.0
    P: Number = 2.0

    def holds(self) -> bool:
        return self.R > self.T >= self.P > self.S


class Chicken(Symmetric):
    """Whoever insists on action 1 wins, unless both do."""

    rule = "T > R > S > P"
    R: Number = 3.0
    S: Number = 1.0
    T: Number = 4.0
    P: Number = 0.0

    def holds(self) -> bool:
        return self.T > self.R > self.S > self.P


class Coordination(Symmetric):
    """Both want to choose alike."""

    rule = "R > T and P > S"
    R: Number = 1.0
    S: Number = 0.0
    T: Number = 0.0
    P: Number = 1.0

    def holds(self) -> bool:
        return self.R > self.T and self.P > self.S


class BattleOfSexes(Payoffs):
    """Both want to choose alike: alice rather 0, bob rather 1.

    favourite: what meeting there is worth to whom it is rather. other: to the other. miss: what both get where they
        differ.
    """

    rule = "favourite > other > miss"
    favourite: Number = 3.0
    other: Number = 2.0
    miss: Number = 0.0

    def holds(self) -> bool:
        return self.favourite > self.other > self.miss

    def cells(self) -> tuple[Pair, Pair, Pair, Pair]:
        miss = (self.miss, self.miss)
        return (self.favourite, self.other), miss, miss, (self.other, self.favourite)


class MatchingPennies(Payoffs):
    """alice wins where both choose alike, bob where they differ.

    win, lose: what winning and losing pays.
    """

    rule = "win > lose"
    win: Number = 1.0
    lose: Number = -1.0

    def holds(self) -> bool:
        return self.win > self.lose

    def cells(self) -> tuple[Pair, Pair, Pair, Pair]:
        alike, differ = (self.win, self.lose), (self.lose, self.win)
        return alike, differ, differ, alike
