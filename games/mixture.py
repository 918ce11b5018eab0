"""Several games in one run: each instance is one of them, drawn by weight.

A seat of the mixture is the seat of the same place in whatever game was drawn, told and paid as there, so all games
must have equally many. Episodes are recorded under the drawn game's name; baselines by game go by that. Groups share
the instance, so all plays of a group are of one game.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from math import nan
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, model_validator

from marft.errors import RecipeError
from marft.game import Game, Message, Options, Player, StepResult

if TYPE_CHECKING:
    from marft.episode import Episode


class Part(BaseModel):
    """One of the games: name, as in a recipe's `game`; its chance to be drawn; its options; what episodes call it.

    A bare text is a name.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    weight: float = Field(1.0, gt=0)
    options: dict[str, Any] = Field(default_factory=dict)
    label: str | None = Field(None, min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _bare_name(cls, data: Any) -> Any:
        return {"name": data} if isinstance(data, str) else data

    def __str__(self) -> str:
        """As one would write it; a bare name where nothing else was said."""
        said = self.model_dump(exclude_defaults=True)
        return self.name if len(said) == 1 else str(said)


class View(NamedTuple):
    """What a scripted player knows: which game was drawn (its number), and what its own player would know there."""

    number: int
    view: Any


class Ready(NamedTuple):
    """A part with its options checked. given: its name in the recipe. name: what episodes call it."""

    given: str
    name: str
    game: type[Game]
    options: Options
    seats: tuple[str, ...]
    players: Mapping[str, Player]


class Mixture(Game):
    """See the module."""

    name = "mixture"

    class Options(Options):
        """games: the games, each {name, weight, options, label} or a bare name. weight: chance to be drawn, relative to
        the others. label: what its episodes are recorded and counted as, by default its name; needed where one game is
        there twice, with other options."""

        games: tuple[Part, ...] = Field((Part(name="prisoners_dilemma"), Part(name="stag_hunt")), min_length=1)

        @model_validator(mode="after")
        def _they_fit(self) -> Mixture.Options:
            parts = ready(self)
            for number, part in enumerate(parts):
                if len(part.seats) != len(parts[0].seats):
                    raise ValueError(
                        f"games must have equally many seats: {part.name} has {len(part.seats)}, "
                        f"{parts[0].name} {len(parts[0].seats)}"
                    )
                if part.name in {other.name for other in parts[:number]}:
                    raise ValueError(f"two games are called {part.name}; give one of them another label")
                if "/" in part.name:
                    raise ValueError(f"{part.name}: a label without / is needed, for the names of metrics")
            return self

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options)
        self.parts = ready(self.options)
        self.seats = self.parts[0].seats
        playable = all(part.players for part in self.parts)
        names = dict.fromkeys(name for part in self.parts for name in part.players if playable)
        self.players = {name: player(self.parts, name) for name in names}

    def reset(self, seed: int) -> None:
        weights = [part.weight for part in self.options.games]
        (self.number,) = random.Random(f"mixture/{seed}").choices(range(len(weights)), weights)
        part = self.parts[self.number]
        self.drawn = part.game(part.options)
        self.drawn.reset(seed)
        self._there = dict(zip(self.seats, part.seats, strict=True))
        self._here = dict(zip(part.seats, self.seats, strict=True))

    @property
    def played(self) -> str:
        return self.parts[self.number].name

    @property
    def clock(self) -> int:
        return self.drawn.clock

    @property
    def phase(self) -> str | None:
        """Of the drawn game, where it has phases."""
        return getattr(self.drawn, "phase", None)

    def there(self, seat: str) -> str:
        """What the drawn game calls a seat."""
        return self._there[seat]

    def acting(self) -> tuple[str, ...]:
        return tuple(self._here[seat] for seat in self.drawn.acting())

    def observe(self, seat: str) -> list[Message]:
        return self.drawn.observe(self._there[seat])

    def act(self, texts: Mapping[str, str]) -> StepResult:
        result = self.drawn.act({self._there[seat]: text for seat, text in texts.items()})
        return StepResult(
            {self._here[seat]: value for seat, value in result.rewards.items()},
            {self._here[seat]: action for seat, action in result.actions.items()},
            tuple(self._here[seat] for seat in result.invalid),
        )

    def view(self, seat: str) -> View:
        return View(self.number, self.drawn.view(self._there[seat]))

    def private(self, seat: str) -> str | None:
        return self.drawn.private(self._there[seat])

    def marks(self, seat: str) -> dict[str, str | int | float]:
        return self.drawn.marks(self._there[seat])

    def facts(self) -> dict[str, Any]:
        """The drawn game's, in which seats have its names; and `drawn`: that game as the recipe names it, its seats."""
        return {**self.drawn.facts(), "drawn": {"game": self.parts[self.number].given, "seats": self._there}}

    def clone(self) -> Mixture:
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        twin.drawn = self.drawn.clone()
        return twin

    @classmethod
    def metrics(cls, episodes: Sequence[Episode], seats: Sequence[str] | None = None) -> dict[str, float]:
        """Each game's own metrics as "game/metric", of the games that were drawn, and "game/share", its share of the
        episodes. invalid: share of unreadable answers in all games together."""
        by_game: dict[str, list[Episode]] = {}
        for episode in episodes:
            by_game.setdefault(episode.game, []).append(episode)
        flags = [
            turn.invalid
            for episode in episodes
            for turn in episode.turns
            if (seats is None or turn.seat in seats) and not episode.failed
        ]
        found = {"invalid": sum(flags) / len(flags) if flags else nan}
        for name in sorted(by_game):
            own = by_game[name]
            found[f"{name}/share"] = len(own) / len(episodes)
            found |= {f"{name}/{key}": value for key, value in _own_metrics(own, seats).items()}
        return found


def ready(options: Mixture.Options) -> tuple[Ready, ...]:
    """The parts with their options checked; worked out once, since every episode has a new game."""
    return _ready(json.dumps([part.model_dump() for part in options.games]))


@lru_cache(maxsize=64)
def _ready(written: str) -> tuple[Ready, ...]:
    from marft.games import find_game, read_options  # the table there holds this game too

    found = []
    for number, part in enumerate(Part(**one) for one in json.loads(written)):
        try:
            game = find_game(part.name)
            if issubclass(game, Mixture):
                raise RecipeError("a mixture cannot be part of a mixture; name its games instead")
            one = game(read_options(game, part.options))
        except RecipeError as error:
            raise RecipeError(f"game.games[{number}] ({part.name}): {error}") from None
        found.append(Ready(part.name, part.label or game.name, game, one.options, tuple(one.seats), dict(one.players)))
    return tuple(found)


def player(parts: Sequence[Ready], name: str) -> Player:
    """The scripted player of this name in whatever game was drawn: its own, else its random one, else its first."""

    def play(view: View, rng: random.Random) -> str:
        players = parts[view.number].players
        chosen = players.get(name) or players.get("random") or next(iter(players.values()))
        return chosen(view.view, rng)

    others = [part.players[name] for part in parts if name in part.players]
    play.__doc__ = others[0].__doc__
    return play


def _own_metrics(episodes: Sequence[Episode], seats: Sequence[str] | None) -> dict[str, float]:
    """What the game that these episodes are of says of them, in the names that it has for seats."""
    from marft.games import find_game

    drawn = episodes[0].facts["drawn"]
    own = None if seats is None else [drawn["seats"][seat] for seat in seats]
    return find_game(drawn["game"]).metrics([_in_its_words(episode) for episode in episodes], own)


def _in_its_words(episode: Episode) -> Episode:
    """The episode with seats named as the drawn game names them."""
    there = episode.facts["drawn"]["seats"]
    if all(here == name for here, name in there.items()):
        return episode

    def renamed(by_seat: Mapping[str, Any]) -> dict[str, Any]:
        return {there[seat]: value for seat, value in by_seat.items()}

    return replace(
        episode,
        seats=tuple(there[seat] for seat in episode.seats),
        team=renamed(episode.team),
        turns=[replace(turn, seat=there[turn.seat]) for turn in episode.turns],
        rewards=[renamed(step) for step in episode.rewards],
        terms={name: renamed(term) for name, term in episode.terms.items()},
    )
