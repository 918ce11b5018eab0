"""The Game contract: rules as a small Python class that knows nothing of models or tokens.

A game owns its random generator (seeded by `reset`), parses the texts it is given, and never raises on a text: an
unreadable answer is data, handled by the policy the game declares (`invalid`). The engine room owns everything else:
who fills a seat, how messages become tokens, and what is learned.

One play goes

    game.reset(seed)
    while seats := game.acting():
        texts = {seat: answer_to(game.observe(seat)) for seat in seats}
        result = game.act(texts)

`marft.compliance.check_game` is the check every game must pass.
"""

from __future__ import annotations

import copy
import random
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from marft.episode import Episode


class Message(NamedTuple):
    """One message shown to a seat. `role` is "system" or "user"; `text` is plain text, never control tokens."""

    role: str
    text: str


@dataclass(slots=True)
class StepResult:
    """What one call of `act` brought.

    rewards: payoff per seat, for any seats (a seat left out earned 0 now).
    actions: the parsed, JSON-able action of each seat that acted.
    invalid: seats whose text could not be read; their action is what the game's policy put in its place.
    """

    rewards: dict[str, float] = field(default_factory=dict)
    actions: dict[str, Any] = field(default_factory=dict)
    invalid: tuple[str, ...] = ()


class Options(BaseModel):
    """Options of a game, checked when the recipe is read. Games subclass it."""

    model_config = ConfigDict(extra="forbid", frozen=True)


_SAID = re.compile(r"(?:^|[.;] )([a-z_0-9]+(?:, [a-z_0-9]+)*): (.+?)(?=[.;] [a-z_0-9]+(?:, [a-z_0-9]+)*: |\. |\.?$)")
"""Of a docstring on one line: "name, name: meaning", up to the end of the sentence or the next name."""

Player = Callable[[Any, random.Random], str]
"""A scripted player: (the seat's view, its own generator) -> its answer. Stateless: the view holds the history."""


class Game(ABC):
    """Rules of one game. Subclasses set `name`, `Options`, `players` and implement the abstract methods."""

    name: ClassVar[str]
    Options: ClassVar[type[Options]] = Options
    players: ClassVar[Mapping[str, Player]] = {}
    makers: ClassVar[Mapping[str, Callable[..., Player]]] = {}
    """What makes players from numbers: `mcts(300)` is makers["mcts"](300)."""

    seats: tuple[str, ...]
    """Seat names in order; may depend on the options."""

    clock: int
    """The step the next decision belongs to. Decisions with the same clock are one step for credit."""

    def __init__(self, options: Options | None = None) -> None:
        self.options = options if options is not None else self.Options()

    @property
    def played(self) -> str:
        """What is being played, credit's column `game`: the game's name, or of several games the one that was drawn."""
        return self.name

    @abstractmethod
    def reset(self, seed: int) -> None:
        """Start an episode. The same seed deals the same instance; no global state is touched."""

    @abstractmethod
    def acting(self) -> tuple[str, ...]:
        """Seats that must answer now; several at once move simultaneously; empty when the game is over."""

    @abstractmethod
    def observe(self, seat: str) -> list[Message]:
        """The messages that are new to `seat` since it was last asked. Call once per decision of an acting seat."""

    @abstractmethod
    def act(self, texts: Mapping[str, str]) -> StepResult:
        """Take the answers of all acting seats and advance."""

    def view(self, seat: str) -> Any:
        """What a scripted player in `seat` may know, as plain data."""
        return None

    def private(self, seat: str) -> str | None:
        """A text that only `seat` may see at this moment (its hand, its values), written as its messages write it.

        The compliance check looks for it in the other seats' messages. None where there is no secret, or no longer.
        """
        return None

    def marks(self, seat: str) -> dict[str, str | int | float]:
        """What credit should know of the decision that `seat` is about to take: further columns of the turn table.

        `role`, the seat's functional group; `observation`, a label of the state it sees, where other words mean the
        same state; `call`, which of its separate calls this is; `attempt` and `reflect`, see `return differential`.
        """
        return {}

    def facts(self) -> dict[str, Any]:
        """JSON-able facts about the finished episode (who won, what was dealt)."""
        return {}

    def clone(self) -> Game:
        """An independent copy in the same state, to branch from."""
        return copy.deepcopy(self)

    @classmethod
    def metrics(cls, episodes: Sequence[Episode], seats: Sequence[str] | None = None) -> dict[str, float]:
        """Numbers that describe play, computed from finished episodes; failed ones are left out.

        `seats` limits what is counted to these seats' play (all by default). NaN where nothing was observed. A game's
        own docstring says what each is, as "name: its meaning." or "name, name: their meaning."; reports show it.
        """
        return {}

    @classmethod
    def meanings(cls) -> dict[str, str]:
        """What the docstring of `metrics` says of each: metric -> a sentence."""
        found = {}
        text = " ".join((cls.metrics.__doc__ or "").split())
        for names, meaning in _SAID.findall(text):
            found |= dict.fromkeys(names.split(", "), meaning[0].upper() + meaning[1:] + ".")
        return found


def play_scripted(game: Game, seed: int, players: Mapping[str, Player], player_seed: int = 0) -> list[StepResult]:
    """Play one episode with scripted players in every seat and return the result of each step."""
    game.reset(seed)
    rng = {seat: random.Random(f"{player_seed}/{seed}/{seat}") for seat in game.seats}
    results = []
    while seats := game.acting():
        for seat in seats:
            game.observe(seat)
        results.append(game.act({seat: players[seat](game.view(seat), rng[seat]) for seat in seats}))
    return results


def of_a_seat(metric: str, seats: Iterable[str]) -> bool:
    """Whether a metric is that of a single seat ("alice/cooperation", "return_alice") and not pooled over seats.

    In a game within a mixture too ("ultimatum/alice/cooperation").
    """
    return any(f"/{seat}/" in f"/{metric}" or metric.endswith(f"_{seat}") for seat in seats)
