"""Who fills the seats: from a recipe's team to engines that can answer for every policy."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping

from marft.banks import AnyBank
from marft.chat import Chats
from marft.config import Policy, Recipe, Remote
from marft.engines.base import Engine
from marft.engines.hf import FROZEN
from marft.engines.remote import RemoteEngine, remotes_of
from marft.engines.route import SCRIPTED
from marft.engines.scripted import ScriptedEngine
from marft.episode import Episode
from marft.game import Game, Player
from marft.games import make_game
from marft.recipe import load_player
from marft.rollout import Rollout
from marft.seeds import derive


def make_rollout(
    recipe: Recipe,
    chat: Chats,
    bank: AnyBank,
    engine: Engine,
    on_episode: Callable[[Episode], None] | None = None,
    remotes: Mapping[str, Remote] | None = None,
) -> Rollout:
    """A rollout of the recipe's game in which every policy of its team can answer.

    remotes: the endpoints that may be asked; by default all that the team names.
    """
    game = make_game(recipe.game.name, recipe.game.options)
    add_frozen(bank, recipe.policies.values())
    return Rollout(
        make_game=game_maker(game),
        chat=chat,
        model=engine,
        scripted=ScriptedEngine(players_of(recipe, game)),
        sampling=recipe.sampling,
        learners=list(recipe.agents),
        seed=derive(recipe.seed, "rollout"),
        attempts=recipe.rollout.attempts,
        deadline=recipe.rollout.deadline,
        on_episode=on_episode,
        plan=recipe.rollout.plan,
        remote=make_remote(remotes_of(recipe) if remotes is None else remotes),
    )


def make_remote(remotes: Mapping[str, Remote]) -> RemoteEngine | None:
    """What answers for remote seats, None without any. The processes of a launch share each spend limit."""
    return RemoteEngine(remotes, processes=int(os.environ.get("WORLD_SIZE", "1"))) if remotes else None


def game_maker(game: Game) -> Callable[[], Game]:
    """New games with the options of this one, which have been checked already."""
    kind, options = type(game), game.options
    return lambda: kind(options)


def players_of(recipe: Recipe, game: Game) -> Mapping[str, Player]:
    """Every scripted player an episode may name: all of the game's, and those the team brings."""
    players = {f"{SCRIPTED}{name}": player for name, player in game.players.items()}
    for key, policy in recipe.policies.items():
        if policy.scripted is not None:
            players[str(policy)] = load_player(game, policy.scripted, f"{key}.scripted")
    return players


def add_frozen(bank: AnyBank, policies: Iterable[Policy]) -> None:
    """Load each frozen adapter once, on its base, under the name its episodes record (but for the base in it)."""
    for policy in policies:
        if policy.frozen in (None, "base"):
            continue
        own, name = bank.of(str(policy)), f"{FROZEN}{policy.frozen}"
        if name not in own.names:
            own.load(name, policy.frozen)
