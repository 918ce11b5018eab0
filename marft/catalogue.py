"""The games in words: `marft games` lists them, `marft games NAME` tells all about one.

Everything shown comes from the game itself: its docstrings, the types of its options, its scripted players, and an
episode that they play, so it cannot say anything else than the code.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import math
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points
from typing import Any

from rich.console import Console
from rich.text import Text

from marft.config import Sampling
from marft.engines.route import SCRIPTED
from marft.engines.scripted import ScriptedEngine
from marft.episode import Episode, Turn
from marft.errors import GameError, RecipeError
from marft.game import Game, of_a_seat
from marft.games import GAMES, find_game, make_game
from marft.games.text import count
from marft.keys import keys_of, read_changes
from marft.report.text import number, one_line, visible
from marft.rollout import Plan, Rollout
from marft.show import amounts, print_steps, print_text, steps_of


def print_games(console: Console) -> None:
    """`marft games`: each game that a recipe can name, with seats, steps, who moves when, and its options."""
    names = [*GAMES, *sorted(entry_points(group="marft.games").names)]
    wide = max(map(len, names))
    for name in names:
        head, trouble, cls = Text(f"{visible(name):{wide}}  ", "bold"), None, None
        try:
            cls = find_game(name)
            game = make_game(name)
            head.append(_shape(game, play_sample(game, 0, [_quick(game)])), "not bold")
        except (RecipeError, GameError) as error:  # what it needs is not installed, or it cannot be without options
            trouble = one_line(error, 200)
        console.print(head, highlight=False, soft_wrap=True)
        if trouble:
            print_text(console, trouble, "yellow", indent=4)
        if cls is not None:
            print_text(console, one_line(_about(cls)[0], 200), indent=4)
            print_text(console, "  ".join(f"{key.name}={key.default}" for key in keys_of(cls.Options)), "dim", indent=4)
    print_text(console, "\nSteps and moves are those of one episode with the defaults. More of one: marft games NAME")


def print_game(name: str, changes: Sequence[str], console: Console, *, seed: int = 0, steps: int = 3) -> None:
    """`marft games NAME`: rules, options, players, metrics, and the first `steps` steps of an episode from `seed`."""
    cls, options = find_game(name), read_changes(changes)
    try:
        game = make_game(name, options)
    except RecipeError:
        if not options:  # so that whoever asks learns what the game needs
            print_text(console, _about(cls)[0])
            _print_options(cls, None, console)
        raise
    sample = play_sample(game, seed, list(game.players)) if game.players else None
    console.rule(Text(visible(name), "bold"), align="left")
    for paragraph in _about(cls):
        print_text(console, paragraph, indent=2)
    played = f"; {count(steps_of(sample), 'step')}, {_moves(sample)}" if sample else ""
    print_text(console, f"{count(len(game.seats), 'seat')}: {', '.join(game.seats)}{played}", indent=2)
    if sample:
        _heading(console, f"rules, as seats are told them (seed {seed})")
        _print_rules(sample, console)
    _heading(console, "options")
    _print_options(cls, game.options, console)
    _heading(console, "scripted players")
    said: dict[str, list[str]] = {}
    for player, function in game.players.items():
        said.setdefault(_first_line(function), []).append(player)
    silent = said.pop("", [])
    for text, players in said.items():  # those of which the same is said share a line
        print_text(console, f"{', '.join(players)}: {text}", indent=2)
    if silent:
        print_text(console, f"{'and ' * bool(said)}{', '.join(silent)}", indent=2)
    if sample is None:
        print_text(console, "none; give the class `players`, to see an episode here and to play against them", indent=2)
        return
    _heading(console, "metrics")
    _print_metrics(game, sample, console)
    _heading(console, f"an episode (seed {seed})")
    print_steps(sample, console, most=steps)
    if (rest := steps_of(sample) - steps) > 0:
        print_text(console, f"… and {count(rest, 'more step')}; --steps {steps_of(sample)} shows all", "dim")
    print_text(console, f"return  {amounts(sample.returns())}", "bold")
    print_text(console, f"facts   {json.dumps(sample.facts, ensure_ascii=False)}", "dim")
    _heading(console, "try")
    print_text(console, f"marft play {' '.join([name, *changes])} --seat {game.seats[0]}", indent=2)
    print_text(console, f"in a recipe, game: {{name: {name}}}, and any option beside the name", indent=2)


def play_sample(game: Game, seed: int, players: Sequence[str]) -> Episode:
    """An episode between the game's scripted players, who take the seats in turn. GameError where the game breaks."""
    team = {seat: f"{SCRIPTED}{players[place % len(players)]}" for place, seat in enumerate(game.seats)}
    scripted = ScriptedEngine({f"{SCRIPTED}{name}": player for name, player in game.players.items()})
    # nobody here speaks in tokens, so there is no chat, and the scripted engine stands in for the model's
    rollout = Rollout(lambda: type(game)(game.options), None, scripted, scripted, Sampling(), (), seed, attempts=1)
    return asyncio.run(rollout.play([Plan(0, 0, seed, team)]))[0]


def _quick(game: Game) -> str:
    """A player for the list: a random one where there is, since others may search for long."""
    if not game.players:
        raise GameError(f"{game.name} has no scripted players")
    return "random" if "random" in game.players else next(iter(game.players))


def _about(cls: type[Game]) -> list[str]:
    """What the game is, by its class's docstring and, where that leaves it to the module, the module's first one."""
    own = inspect.cleandoc(vars(cls).get("__doc__") or "").removeprefix("See the module.").strip()
    module = inspect.cleandoc(sys.modules[cls.__module__].__doc__ or "").split("\n\n")[0]
    if own and "See the module" not in (vars(cls).get("__doc__") or ""):
        return [own, module] if len(own) < 40 and module else [own]
    parts = [" ".join(part.split()) for part in own.split("\n\n")]
    return [text for text in (module, *parts) if text] or [
        f"{cls.__name__} says nothing of itself: give it a docstring"
    ]


def _shape(game: Game, sample: Episode) -> str:
    """Seats, steps, who moves when."""
    seats = game.seats
    who = ", ".join(seats) if len(seats) < 4 else f"{seats[0]} … {seats[-1]}"
    return f"{count(len(seats), 'seat')} ({visible(who)}), {count(steps_of(sample), 'step')}, {_moves(sample)}"


def _moves(sample: Episode) -> str:
    """Who acts when: all seats at once, one at a time, or both in turn."""
    decisions = sum(turn.order == 0 for turn in sample.turns)
    if len(sample.seats) == 1:
        return "alone"
    if len(sample.turns) == decisions:
        return "in turn"
    return "at once" if len(sample.turns) == decisions * len(sample.seats) else "partly at once"


def _heading(console: Console, text: str) -> None:
    console.print()
    print_text(console, text, "bold underline")


def _print_rules(sample: Episode, console: Console) -> None:
    """What each seat is told when it is first asked; seats that are told the same share it, and two are enough.

    What was printed here is not told again where the episode is.
    """
    told: dict[str, list[Turn]] = {}
    for seat in sample.seats:
        if turn := next(sample.turns_of(seat), None):
            text = "\n".join(text if role == "user" else f"{role}: {text}" for role, text in turn.messages)
            told.setdefault(text, []).append(turn)
    for text, turns in list(told.items())[:2]:
        print_text(console, ", ".join(turn.seat for turn in turns), "bold", indent=2)
        print_text(console, text, indent=4)
        for turn in turns:
            turn.messages = [("user", "(the rules, as above)")]
    if len(told) > 2:
        print_text(console, f"and so on for the other {sum(map(len, list(told.values())[2:]))}", "dim", indent=2)


def _print_options(cls: type[Game], values: Any, console: Console) -> None:
    """Each key with its value here, its default where the two differ, what is allowed, what it means."""
    defaults = {key.name: key.default for key in keys_of(cls.Options)}
    for key in keys_of(cls.Options, values=values):
        default = defaults[key.name]
        line = Text(f"  {key.name}={visible(key.default)}", "bold")
        line.append("" if key.default == default else f"  (default {visible(default)})", "not bold")
        console.print(line.append(f"  {key.allowed}", "not bold dim"), highlight=False, soft_wrap=True)
        if key.meaning:
            print_text(console, key.meaning, indent=6)
    if not defaults:
        print_text(console, "none", indent=2)


def _print_metrics(game: Game, sample: Episode, console: Console) -> None:
    """What the docstring of `metrics` says, and what the sample gives."""
    said = inspect.getdoc(type(game).metrics) if type(game).metrics.__func__ is not Game.metrics.__func__ else None
    print_text(console, " ".join(said.split()) if said else "none of its own", indent=2)
    found = type(game).metrics([sample])
    pooled = {key: value for key, value in found.items() if not of_a_seat(key, sample.seats)}
    if pooled:
        shown = ", ".join(f"{key} {number(value if math.isfinite(value) else None)}" for key, value in pooled.items())
        print_text(console, f"in the episode below: {shown}", "dim", indent=2)


def _first_line(function: Any) -> str:
    return (inspect.getdoc(function) or "").partition("\n\n")[0].replace("\n", " ")
