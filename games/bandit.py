"""A bandit a seat: the smallest game in which learning can be told from not learning.

Every seat pulls one of several arms at each step, all seats at once, and is paid for its own arm alone. Which arm is
the best at which step is fixed by the options, so a seat that learned earns 1 at every step. Nothing that one seat does
touches another: what a method for several agents does here, it does to agents that have nothing to do with each other.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from pydantic import Field, model_validator

from marft.game import Game, Message, Options, StepResult
from marft.games.payoffs import Number

if TYPE_CHECKING:
    from marft.episode import Episode

NAMES = ("alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi")
ANSWER_LIMIT = 4000
"""Characters beyond which an answer counts as unreadable."""


class BanditOptions(Options):
    """seats: how many pull. best: the number of the best arm at each step, so the episode has as many steps.

    arms: what they are called. pays: what the best arm pays and what any other does; an unreadable answer pays nothing.
    """

    seats: int = Field(2, ge=1, le=len(NAMES))
    arms: tuple[str, ...] = Field(("<A>", "<B>"), min_length=2)
    best: tuple[int, ...] = Field((0, 1, 0), min_length=1, max_length=1000)
    pays: tuple[Number, Number] = (1.0, 0.0)

    @model_validator(mode="after")
    def _there(self) -> BanditOptions:
        if not all(0 <= arm < len(self.arms) for arm in self.best):
            raise ValueError(f"best {list(self.best)} must be numbers of the {len(self.arms)} arms, from 0")
        if any(one != other and one in other for one in self.arms for other in self.arms) or len(set(self.arms)) < len(
            self.arms
        ):
            raise ValueError(f"arms {list(self.arms)} must be different, and none a part of another")
        return self


class BanditView(NamedTuple):
    """What a scripted player knows."""

    step: int
    arms: tuple[str, ...]
    best: int


def best_arm(view: BanditView, rng: random.Random) -> str:
    """The best arm always."""
    return view.arms[view.best]


def random_arm(view: BanditView, rng: random.Random) -> str:
    """Any arm, all alike."""
    return rng.choice(view.arms)


def first_arm(view: BanditView, rng: random.Random) -> str:
    """Arm 0 always."""
    return view.arms[0]


def last_arm(view: BanditView, rng: random.Random) -> str:
    """The last arm always."""
    return view.arms[-1]


class Bandit(Game):
    """Every seat its own bandit."""

    name = "bandit"
    Options = BanditOptions
    players = {"random": random_arm, "first": first_arm, "last": last_arm, "best": best_arm}

    def __init__(self, options: BanditOptions | None = None) -> None:
        super().__init__(options)
        o = self.options
        self.seats = NAMES[: o.seats]
        steps = f"{len(o.best)} step{'s' * (len(o.best) > 1)}"
        self._rules = f"You pull one of the arms {' '.join(o.arms)} in each of {steps}. Answer with the arm. Your arm?"

    def reset(self, seed: int) -> None:
        self.clock = 0
        self._paid: dict[str, float] = {}

    def acting(self) -> tuple[str, ...]:
        return self.seats if self.clock < len(self.options.best) else ()

    def observe(self, seat: str) -> list[Message]:
        return [Message("user", f"It paid {self._paid[seat]:g}. Your arm?" if self.clock else self._rules)]

    def act(self, texts: Mapping[str, str]) -> StepResult:
        o = self.options
        pulled = {seat: self._read(texts[seat]) for seat in self.seats}
        best = o.best[self.clock]
        self._paid = {
            seat: 0.0 if arm is None else o.pays[0] if arm == best else o.pays[1] for seat, arm in pulled.items()
        }
        self.clock += 1
        return StepResult(dict(self._paid), pulled, tuple(seat for seat, arm in pulled.items() if arm is None))

    def _read(self, text: str) -> int | None:
        if len(text) > ANSWER_LIMIT:
            return None
        found = [number for number, arm in enumerate(self.options.arms) if arm in text]
        return found[0] if len(found) == 1 else None

    def view(self, seat: str) -> BanditView:
        best = self.options.best
        return BanditView(self.clock, self.options.arms, best[min(self.clock, len(best) - 1)])

    def facts(self) -> dict[str, Any]:
        """answer: the best arms in order, as text."""
        return {"answer": " ".join(self.options.arms[arm] for arm in self.options.best)}

    @classmethod
    def metrics(cls, episodes: Sequence[Episode], seats: Sequence[str] | None = None) -> dict[str, float]:
        """return: mean per seat and episode. invalid: share of unreadable answers."""
        found = [(episode, seat) for episode in episodes for seat in (seats or episode.seats)]
        turns = [turn.invalid for episode, seat in found for turn in episode.turns_of(seat)]
        return {
            "return": float(np.mean([episode.returns()[seat] for episode, seat in found])) if found else float("nan"),
            "invalid": float(np.mean(turns)) if turns else float("nan"),
        }
