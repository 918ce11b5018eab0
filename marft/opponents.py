"""Who sits at the table with a person: scripted players, or the policies of a trained run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from marft.config import Sampling
from marft.engines.base import Engine
from marft.engines.route import PERSON, REMOTE, SCRIPTED
from marft.engines.scripted import ScriptedEngine
from marft.errors import RecipeError, RunFolderError
from marft.game import Game, Player
from marft.games import make_game
from marft.lookup import nearest
from marft.recipe import load_player, merge

if TYPE_CHECKING:
    from marft.chat import Chats

YOU = f"{PERSON}you"


@dataclass
class Table:
    """A game with its seats filled: seat -> policy, and what answers for the policies that are not a person.

    model, chat: what answers for trained seats, and makes their tokens; remote: for remote ones; None where there are
    none.
    """

    game: Game
    seat: str
    team: dict[str, str]
    scripted: ScriptedEngine
    model: Engine | None = None
    chat: Chats | None = None
    sampling: Sampling = field(default_factory=Sampling)
    remote: Engine | None = None


def scripted_table(name: str, options: Mapping[str, Any], seat: str | None, against: str | None) -> Table:
    """The person in `seat` (the first by default), scripted players in the others.

    against: names of the game's players or file.py:function, comma-separated; they take the other seats in turn. By
    default the random one, else the game's first.
    """
    game = make_game(name, options)
    seat = own_seat(game, seat)
    others = [other for other in game.seats if other != seat]
    if against is None and others:
        if not game.players:
            raise RecipeError(f"{name} has no scripted players; give your own, --against path/to/file.py:function")
        against = "random" if "random" in game.players else next(iter(game.players))
    names = [one.strip() for one in (against or "").split(",") if one.strip()]
    if len(names) > len(others):
        raise RecipeError(f"--against: {len(names)} players for the {len(others)} other seats of {name}")
    players = {f"{SCRIPTED}{one}": load_player(game, one, "--against") for one in names}
    team = {other: f"{SCRIPTED}{names[place % len(names)]}" for place, other in enumerate(others)}
    return Table(game, seat, team | {seat: YOU}, ScriptedEngine(players))


def trained_table(name: str, changes: Mapping[str, Any], seat: str | None, run: Path) -> Table:
    """The person in `seat`, the policies that the run's recipe seats there in all others, with its newest adapters.

    The options are the run's, changed by `changes`.
    """
    from marft.banks import open_bases
    from marft.engines.make import hf_engine
    from marft.engines.remote import remotes_of
    from marft.eval.teams import home_in, load_team
    from marft.team import add_frozen, make_remote, players_of

    team = load_team(run.resolve().name, _run_folder(run), None)
    recipe = team.recipe
    if recipe.game.name != name:
        raise RecipeError(f"--run: {run} plays {recipe.game.name}, not {name}; play {recipe.game.name}, or another run")
    game = make_game(name, merge(recipe.game.options, changes))
    seat = own_seat(game, seat)
    others = [other for other in game.seats if other != seat]
    if empty := [other for other in others if other not in recipe.team]:
        raise RecipeError(
            f"--run: the recipe of {run} seats nobody at {', '.join(empty)}; it seats {list(recipe.team)}"
        )
    players: dict[str, Player] = dict(players_of(recipe, game))
    policies = {other: team.policy(other) for other in others}
    remote = make_remote(
        {name: one for name, one in remotes_of(recipe).items() if f"{REMOTE}{name}" in policies.values()}
    )
    base, bank = open_bases(recipe, packing=False, home=home_in([team]))
    agents = dict.fromkeys(recipe.team[other].own.agent for other in others)
    team.load_into(bank, [agent for agent in agents if agent is not None])
    add_frozen(bank, [recipe.team[other].own for other in others])
    engine = hf_engine(base, bank, max_batch=recipe.engine.max_batch)
    return Table(
        game, seat, policies | {seat: YOU}, ScriptedEngine(players), engine, base.chat, recipe.sampling, remote
    )


def own_seat(game: Game, seat: str | None) -> str:
    """The person's seat: the first where none is named."""
    if seat is None:
        return game.seats[0]
    if seat not in game.seats:
        raise RecipeError(f"--seat: {game.name} has no seat {seat!r}{nearest(seat, game.seats)}")
    return seat


def _run_folder(run: Path) -> Path:
    if (run / "recipe.yaml").is_file():
        return run
    inside: Sequence[Path] = sorted(run.glob("*/recipe.yaml")) if run.is_dir() else []
    if inside:
        raise RunFolderError(
            f"--run: {run} holds runs, it is none; give {' or '.join(str(one.parent) for one in inside)}"
        )
    raise RunFolderError(f"--run: {run} is no run folder: it holds no recipe.yaml")
