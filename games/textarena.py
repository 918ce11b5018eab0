"""A TextArena environment as a game: `env: TicTacToe-v0` names it (`pip install marft[textarena]`).

TextArena decides what is legal, what follows and what is paid; an unreadable move is its own affair too (mostly one
more try, then the game is lost) and is flagged here. Its environments draw from Python's shared generator, which they
are lent a state of. A clone is the episode played again from seed and answers. Several of its environments raise, or
fetch word lists when they are made; an episode in which one raises fails and says so.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import Field

from marft.errors import RecipeError
from marft.game import Game, Message, Options, StepResult
from marft.games.isolation import OwnChance
from marft.games.table import many_seats
from marft.games.tally import tally
from marft.lookup import nearest

if TYPE_CHECKING:
    from marft.episode import Episode

_BRACKETS = re.compile(r"\[[^\[\]\n]{1,40}\]")


class TextArenaOptions(Options):
    """env: a name of TextArena's registry, such as TicTacToe-v0. arguments: what it is made with beside the name.

    seats: how many play. longest: characters of an answer that reach the environment. max_decisions: after so many the
        episode ends, finished or not.
    """

    env: str = Field(min_length=1)
    arguments: dict[str, Any] = {}
    seats: int = Field(2, ge=1, le=20)
    longest: int = Field(4000, ge=1)
    max_decisions: int = Field(1000, ge=1)


class TextArenaView(NamedTuple):
    """What a scripted player knows. told: what is new to it. moves: what stands in [brackets] there, as moves often."""

    seat: str
    told: str
    moves: tuple[str, ...]


def uniform(view: TextArenaView, rng: random.Random) -> str:
    """Any of what it was last shown in brackets, all alike."""
    return rng.choice(view.moves) if view.moves else f"[{rng.randrange(10)}]"


def last(view: TextArenaView, rng: random.Random) -> str:
    """The last of what it was shown in brackets."""
    return view.moves[-1] if view.moves else "[0]"


class TextArena(Game):
    """Any TextArena environment (`pip install marft[textarena]`)."""

    name = "textarena"
    Options = TextArenaOptions
    players = {"random": uniform, "last": last}

    def __init__(self, options: TextArenaOptions | None = None) -> None:
        super().__init__(options)
        self.seats = many_seats(self.options.seats)
        try:
            self.reset(0)
        except RecipeError:
            raise
        except Exception as error:  # another package's code may fail in any way; the message must name it
            o, why = self.options, f"{type(error).__name__}: {error}"
            raise RecipeError(f"game.env: {o.env} does not start with game.seats {o.seats}: {why}") from error

    def _make(self) -> Any:
        try:
            import textarena
            from textarena.envs.registration import ENV_REGISTRY
        except ImportError as error:
            raise RecipeError(
                f"game {self.name} needs TextArena, which cannot be imported ({error}): pip install marft[textarena]"
            ) from error
        name = self.options.env.removesuffix("-raw")
        if name not in ENV_REGISTRY:
            known = [one for one in ENV_REGISTRY if not one.endswith(("-raw", "-train"))]
            raise RecipeError(f"game.env: TextArena has no {name!r:.80}{nearest(name, known)}")
        # the raw version tells each player only what is new, where the others repeat the whole conversation
        return textarena.make(f"{name}-raw" if f"{name}-raw" in ENV_REGISTRY else name, **self.options.arguments)

    def reset(self, seed: int) -> None:
        self._seed, self._script, self.clock = seed, [], 0
        self._chance, self._done = OwnChance(seed), False
        with self._chance.lent():
            self._env = self._make()
            self._env.reset(num_players=len(self.seats), seed=seed % 2**31)
            self._listen()

    def _listen(self) -> None:
        """Who acts now, and what is new to it: asked once, since TextArena tells it once."""
        player, said = self._env.get_observation()
        if player not in range(len(self.seats)):
            raise RecipeError(
                f"game.seats: {self.options.env} asks player {player} of {len(self.seats)}; raise game.seats"
            )
        self._player, names = player, self._env.state.role_mapping
        lines = [str(said)] if isinstance(said, str) else []
        for who, text, *_ in said if not isinstance(said, str) else ():
            if who != player:  # what it said itself stands in its conversation already
                spoken = who in range(len(self.seats))  # else it is the game that tells
                lines.append(f"{names.get(who, f'Player {who}')}: {text}" if spoken else str(text))
        self._told = "\n".join(lines)

    def acting(self) -> tuple[str, ...]:
        over = self._done or self.clock >= self.options.max_decisions
        return () if over else (self.seats[self._player],)

    def observe(self, seat: str) -> list[Message]:
        return [Message("user", self._told)]

    def act(self, texts: Mapping[str, str]) -> StepResult:
        if not self.acting():
            raise RuntimeError("the episode is over: call reset before act")
        seat, player = self.seats[self._player], self._player
        text = texts[seat][: self.options.longest]
        unread = self._take(text)
        rewards: dict[str, float] = {}
        if self._done:
            paid, info = self._env.close()
            rewards = {self.seats[who]: float(value) for who, value in (paid or {}).items()}
            unread = bool((info or {}).get(player, {}).get("invalid_move", False))
        said = text.encode("utf-8", "replace").decode("utf-8")
        return StepResult(rewards, {seat: said}, (seat,) if unread else ())

    def _take(self, text: str) -> bool:
        """Let TextArena take an answer; whether it asks for it again."""
        self._script.append(text)
        self.clock += 1
        with self._chance.lent():
            self._done, _ = self._env.step(action=text)
            if not self._done:
                self._listen()
        return bool(getattr(self._env.state, "error_count", 0))

    def view(self, seat: str) -> TextArenaView:
        shown = self._told.rpartition("Available")[2] if "Available" in self._told else self._told
        return TextArenaView(seat, self._told, tuple(_BRACKETS.findall(shown)))

    def facts(self) -> dict[str, Any]:
        """played: how many decisions were taken. cut: whether max_decisions ended it."""
        return {"played": self.clock, "cut": not self._done}

    def clone(self) -> TextArena:
        twin = type(self)(self.options)
        twin.reset(self._seed)
        for text in self._script:
            twin._take(text)
        return twin

    @classmethod
    def metrics(cls, episodes: Sequence[Episode], seats: Sequence[str] | None = None) -> dict[str, float]:
        """return: mean per seat and episode. welfare: joint return per decision. invalid: share of refused moves."""
        return tally(episodes, seats, lambda episode: ())
