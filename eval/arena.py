"""Playing teams against opponents: same instances for all, seats swapped, everything on disk.

A pairing puts the team in one seat and the opponent in all others, for each seat in turn; self-play puts the team in
every seat. All episodes of all pairings are played together, so that the engine batches across them.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from marft import __version__
from marft.banks import open_bases
from marft.bases import DEFAULT, Home, home_of, views_of
from marft.config import Recipe, Remote
from marft.engines.make import hf_engine
from marft.engines.remote import check_keys
from marft.engines.route import SCRIPTED
from marft.engines.scripted import ScriptedEngine
from marft.episode import Episode, finished
from marft.errors import RecipeError, RunFolderError
from marft.eval.heldout import on_split
from marft.eval.measure import table_metrics
from marft.eval.results import SCHEMA, write_results
from marft.eval.stats import interval
from marft.game import Player
from marft.games import make_game
from marft.lookup import nearest
from marft.model import base_source
from marft.publish.folder import ADAPTER, file_hash
from marft.publish.load import is_published, published_recipe
from marft.recipe import load_recipe
from marft.rollout import FLAT, Plan
from marft.seeds import derive
from marft.store import write_parquet
from marft.tasks.options import Split
from marft.team import add_frozen, make_rollout, players_of
from marft.train.checkpoint import latest_checkpoint
from marft.train.folder import is_run, run_recipe, versions


@dataclass(frozen=True)
class Team:
    """A trained team: seat -> name of its policy in the arena's bank."""

    name: str
    source: Path
    recipe: Recipe
    adapters: dict[str, Path]
    """Agent -> its PEFT folder."""

    def policy(self, seat: str) -> str:
        filled = self.recipe.team[seat].own
        return f"{self.name}/{filled.agent}" if filled.agent is not None else str(filled)


@dataclass(frozen=True)
class Pairing:
    """`team` in one of `seats` at a time, `opponent` in the others; for self-play the team in all."""

    team: str
    opponent: str
    kind: str
    tables: tuple[tuple[tuple[str, ...], Mapping[str, str]], ...]
    """(seats of the team, seat -> policy), one per way of sitting."""


def evaluate(
    teams: Mapping[str, Path],
    out: Path,
    *,
    against: str = "all",
    episodes: int = 64,
    seed: int = 0,
    resamples: int = 200,
    recipe: Path | None = None,
    split: Split = "test",
) -> dict[str, Any]:
    """Play all pairings, write `out`/results.json and `out`/episodes, return the results.

    split: of the tasks, where the game has any.
    """
    loaded = [load_team(name, path, recipe) for name, path in teams.items()]
    first = loaded[0].recipe
    for team in loaded[1:]:
        for key in ("game", "model", "models", "sampling"):
            if getattr(team.recipe, key) != getattr(first, key):
                raise RecipeError(f"eval: {team.name} and {loaded[0].name} differ in {key}; evaluate them one by one")
    played_as = on_split(first, split)
    game = make_game(first.game.name, played_as.game.options)
    pairings = pair(loaded, _opponents(against, game.players), game.seats)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFolderError(f"{out} cannot be written: {error.strerror}; choose --out") from None
    remotes = _remotes(loaded)
    check_keys(remotes)
    base, bank = open_bases(first, packing=False, home=home_in(loaded))
    for team in loaded:
        for agent, folder in team.adapters.items():
            name = f"{team.name}/{agent}"
            bank.of(name).load(name, folder)
    engine = hf_engine(base, bank, max_batch=first.engine.max_batch)
    rollout = make_rollout(played_as, base.chat, bank, engine, remotes=remotes)
    players: dict[str, Player] = {}
    for team in loaded:  # a team may bring players and frozen adapters of its own
        players |= players_of(team.recipe, game)
        add_frozen(bank, team.recipe.policies.values())
    rollout.scripted = ScriptedEngine(players)
    rollout.seed = derive(seed, "eval")
    rollout.plan = FLAT  # a team that was trained on trees plays whole episodes like any other
    plans = [
        Plan(number, table * episodes + index, derive(seed, "eval-instance", index), seats, update=0)
        for number, pairing in enumerate(pairings)
        for table, (_, seats) in enumerate(pairing.tables)
        for index in range(episodes)
    ]
    played = asyncio.run(rollout.play(plans))
    write_parquet(played, out / "episodes" / "update-000000.parquet")
    done = finished(played)
    results = {
        "schema": SCHEMA,
        "marft": __version__,
        "suite": "own",
        "teams": {team.name: _describe(team) for team in loaded},
        "settings": {
            **_bases(first),
            "sampling": first.sampling.model_dump(),
            "episodes": episodes,
            "seeds": 1,
            "seed": seed,
            "resamples": resamples,
            "interval": 0.95,
        }
        | ({} if played_as is first else {"split": split}),
        "versions": versions(),
        "pairs": [
            {"game": first.game.name, "options": played_as.game.options, "group": number}
            | _measure(pairing, done[start : start + count], type(game), episodes, resamples, derive(seed, "bootstrap"))
            for number, (pairing, start, count) in enumerate(_slices(pairings, episodes))
        ],
        "summary": {},
    }
    write_results(results, out / "results.json")
    return results


def home_in(teams: Sequence[Team]) -> Callable[[str], Home]:
    """Where a policy of these teams is at home: "team/agent", or what their recipes call by the same name."""
    own = {f"{team.name}/{agent}": home_of(team.recipe, agent).base for team in teams for agent in team.adapters}
    return lambda policy: Home(own[policy], policy) if policy in own else home_of(teams[0].recipe, policy)


def _bases(recipe: Recipe) -> dict[str, str]:
    """The base, as results name it, and those beside it."""
    views = views_of(recipe)
    names = {key: base_source(view) if view.model.name != "tiny" else "tiny" for key, view in views.items()}
    return {"base": names[DEFAULT]} | ({"bases": names} if len(names) > 1 else {})


def _remotes(teams: list[Team]) -> dict[str, Remote]:
    """The endpoints that sit in seats of the teams as they are evaluated; one name means one endpoint."""
    found: dict[str, Remote] = {}
    for team in teams:
        for name in [seat.own.remote for seat in team.recipe.team.values() if seat.own.remote is not None]:
            if found.setdefault(name, team.recipe.remotes[name]) != team.recipe.remotes[name]:
                raise RecipeError(
                    f"eval: remotes.{name} of {team.name} differs from another team's; give it a new name"
                )
    return found


def load_team(name: str, path: Path, recipe: Path | None) -> Team:
    """A team from a run folder or a published one, or with `recipe` from a folder with one PEFT folder per agent."""
    if recipe is None and is_published(path):
        settings, folder = published_recipe(path), path
    elif recipe is None:
        settings = run_recipe(path)
        newest = latest_checkpoint(path / "checkpoints")
        folder = newest / "adapters" if newest is not None else path / "adapters"
    else:
        settings, folder = load_recipe(recipe), path
    adapters = {agent: folder / agent for agent in settings.agents}
    for agent, place in adapters.items():
        if not (place / "adapter_config.json").is_file():
            raise RunFolderError(f"eval: {name} has no adapter of {agent} at {place}; has the run saved a checkpoint?")
    return Team(name, path, settings, adapters)


def pair(teams: list[Team], players: list[str], seats: tuple[str, ...]) -> list[Pairing]:
    """Self-play of each team, each against each scripted player, and each against each other.

    A team is seated and measured where a model of its own plays; seats that its recipe gave to a script or a remote
    policy stay theirs in its self-play, and are no seats of the team elsewhere.
    """
    pairings = []
    for team in teams:
        everywhere = {seat: team.policy(seat) for seat in seats}
        own = tuple(seat for seat in seats if team.recipe.team[seat].own.by_model)
        pairings.append(Pairing(team.name, "self", "self", ((own, everywhere),)))
        if len(seats) < 2:
            continue
        for player in players:
            against = dict.fromkeys(seats, f"{SCRIPTED}{player}")
            tables = tuple(((seat,), against | {seat: team.policy(seat)}) for seat in own)
            pairings.append(Pairing(team.name, player, "scripted", tables))
        for other in teams:
            if other is not team:
                against = {seat: other.policy(seat) for seat in seats}
                tables = tuple(((seat,), against | {seat: team.policy(seat)}) for seat in own)
                pairings.append(Pairing(team.name, other.name, "team", tables))
    return pairings


def _slices(pairings: list[Pairing], episodes: int) -> list[tuple[Pairing, int, int]]:
    slices, start = [], 0
    for pairing in pairings:
        count = len(pairing.tables) * episodes
        slices.append((pairing, start, count))
        start += count
    return slices


def _measure(
    pairing: Pairing, played: list[Episode], game: Any, episodes: int, resamples: int, seed: int
) -> dict[str, Any]:
    """The pairing's metrics with intervals: each resample draws instances, with all their ways of sitting."""
    tables = [
        (seats, played[number * episodes : (number + 1) * episodes]) for number, (seats, _) in enumerate(pairing.tables)
    ]

    def statistic(drawn: list[int]) -> dict[str, float]:
        found = [table_metrics(game, seats, [rows[index] for index in drawn]) for seats, rows in tables]
        keys = dict.fromkeys(key for one in found for key in one)  # a mixture counts only the games that were drawn
        return {key: sum(one.get(key, math.nan) for one in found) / len(found) for key in keys}

    return {
        "team": pairing.team,
        "opponent": pairing.opponent,
        "kind": pairing.kind,
        "instances": episodes,
        "ways": len(tables),
        "episodes": len(played),
        "seats": [seat for seats, _ in tables for seat in seats],
        "metrics": interval(statistic, episodes, resamples, seed),
    }


def _opponents(against: str, players: Mapping[str, Any]) -> list[str]:
    if against == "none":
        return []
    if against == "all":
        return list(players)
    names = [name.strip() for name in against.split(",") if name.strip()]
    for name in names:
        if name not in players:
            raise RecipeError(f"--against: no player {name!r}{nearest(name, players)}")
    return names


def _describe(team: Team) -> dict[str, Any]:
    return {
        "kind": "published" if is_published(team.source) else "run" if is_run(team.source) else "adapters",
        "source": str(team.source),
        "recipe": team.recipe.name,
        "adapters": {agent: file_hash(path / ADAPTER[1]) for agent, path in team.adapters.items()},
    }
