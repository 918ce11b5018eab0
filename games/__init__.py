"""The games by name, and how a recipe's `game` and its options become one.

`GAMES` is the only table of built-in games. A user's own game is named by file ("path/to/file.py:Class"), by module
("package.module:Class"), or by an entry point of the group "marft.games". Whatever cannot be used as written ends in
one RecipeError that says what was given, what is allowed and what comes nearest.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any

from pydantic import ValidationError

from marft.errors import RecipeError
from marft.game import Game, Options
from marft.games.any_openspiel import OpenSpiel
from marft.games.auction import SealedBidAuction
from marft.games.bandit import Bandit
from marft.games.battle_royale import BattleRoyale
from marft.games.boards import ConnectFour, TicTacToe
from marft.games.deal_or_no_deal import DealOrNoDeal
from marft.games.debate import Debate
from marft.games.fishery import Fishery
from marft.games.gama_games import DinersDilemma, DivideDollar, ElFarol, GuessTwoThirds, PublicGoodsTokens
from marft.games.goofspiel import Goofspiel
from marft.games.hanabi import MiniHanabi
from marft.games.liars_dice import LiarsDice
from marft.games.matrix import BattleOfSexes, Chicken, Coordination, MatchingPennies, PrisonersDilemma, StagHunt
from marft.games.mixture import Mixture
from marft.games.pettingzoo import PettingZoo
from marft.games.pipeline import Pipeline
from marft.games.pirates import Pirates
from marft.games.poker import KuhnPoker, LeducPoker
from marft.games.public_goods import PublicGoods, SequentialPublicGoods
from marft.games.rock_paper_scissors import RockPaperScissors
from marft.games.split import Split
from marft.games.split_info import SplitInfo
from marft.games.textarena import TextArena
from marft.games.trust_and_split import TrustAndSplit
from marft.games.trust_game import TrustGame
from marft.games.two_dollar import TwoDollar
from marft.games.ultimatum import Ultimatum
from marft.games.word_spy import WordSpy
from marft.lookup import cannot_import, explain, load_module, nearest, short

_BUILT_IN: tuple[type[Game], ...] = (
    PrisonersDilemma,
    StagHunt,
    Chicken,
    BattleOfSexes,
    MatchingPennies,
    Coordination,
    TrustAndSplit,
    Split,
    SplitInfo,
    WordSpy,
    PublicGoods,
    SequentialPublicGoods,
    Fishery,
    Ultimatum,
    TrustGame,
    TwoDollar,
    DealOrNoDeal,
    GuessTwoThirds,
    ElFarol,
    DivideDollar,
    PublicGoodsTokens,
    DinersDilemma,
    SealedBidAuction,
    BattleRoyale,
    Pirates,
    TicTacToe,
    ConnectFour,
    KuhnPoker,
    LeducPoker,
    LiarsDice,
    MiniHanabi,
    Goofspiel,
    RockPaperScissors,
    OpenSpiel,
    PettingZoo,
    TextArena,
    Bandit,
    Debate,
    Pipeline,
    Mixture,
)
GAMES: dict[str, type[Game]] = {game.name: game for game in _BUILT_IN}


def make_game(name: str, options: Mapping[str, Any] | None = None) -> Game:
    """A new game from its name (or file, module, entry point) and its options; RecipeError where they do not fit."""
    cls = find_game(name)
    return cls(read_options(cls, options))


def find_game(name: str) -> type[Game]:
    """The class behind a name, "file.py:Class", "module:Class" or an entry point; RecipeError where there is none."""
    if name in GAMES:
        return GAMES[name]
    if ":" in name:
        return _checked(name, _from_place(name))
    added = entry_points(group="marft.games")
    if name in added.names:
        try:
            found = added[name].load()
        except Exception as error:  # another package's code may fail in any way; the message must name it
            raise RecipeError(cannot_import(f"game {name!r}", error)) from error
        return _checked(name, found)
    known = [*GAMES, *sorted(added.names)]
    raise RecipeError(
        f"game {short(name)} is not known{nearest(name, known)} (an own game is named path/to/file.py:Class or "
        "package.module:Class)"
    )


def read_options(game: type[Game], options: Mapping[str, Any] | None = None) -> Options:
    """The checked options of a game; RecipeError with one line per option that cannot be used."""
    try:
        return game.Options.model_validate(dict(options or {}))
    except ValidationError as error:
        lines = explain(error, game.Options, "game.").splitlines()
        raise RecipeError("\n".join(f"{game.name}: {line}" for line in lines)) from None


def _from_place(name: str) -> Any:
    place, _, attribute = name.rpartition(":")
    module = load_module(place, f"game {name!r}")
    if not hasattr(module, attribute):
        classes = [key for key, value in vars(module).items() if inspect.isclass(value) and issubclass(value, Game)]
        hint = nearest(attribute, classes) or ", and no other game"
        raise RecipeError(f"game {name!r}: {place} has no {attribute!r}{hint}")
    return getattr(module, attribute)


def _checked(name: str, cls: Any) -> type[Game]:
    if not (inspect.isclass(cls) and issubclass(cls, Game)):
        raise RecipeError(f"game {name!r} is {short(cls)}, not a subclass of marft.game.Game")
    if missing := sorted(getattr(cls, "__abstractmethods__", ())):
        raise RecipeError(f"game {name!r} does not define {', '.join(missing)}")
    if not isinstance(getattr(cls, "name", None), str):
        raise RecipeError(f"game {name!r} has no name: set the class attribute `name`")
    return cls
