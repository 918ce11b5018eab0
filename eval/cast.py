"""Everything that answers in an evaluation, loaded once: bases, adapters, scripted players, endpoints.

Teams may be on different bases; equal ones are loaded once. Each policy is asked with its own team's sampling.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from marft.bank import AdapterBank
from marft.banks import Banks, Bases, make_scorer
from marft.bases import home_of, views_of
from marft.config import Recipe, Remote, Sampling
from marft.engines.base import Completion, Request
from marft.engines.by_base import EngineByBase
from marft.engines.hf import FROZEN, HFEngine
from marft.engines.route import REMOTE, SCRIPTED
from marft.engines.scripted import ScriptedEngine
from marft.episode import Episode
from marft.errors import RecipeError
from marft.eval.matches import Match, Pair, Schedule
from marft.eval.teams import BARE, Team
from marft.eval.text_policy import TOKENS_AT_ONCE, TextPolicy
from marft.eval.text_policy import measure as measure_exactly
from marft.game import Game, Player
from marft.games import make_game
from marft.model import base_source, load_base
from marft.recipe import load_player
from marft.rollout import Rollout
from marft.seeds import derive
from marft.team import game_maker, make_remote


class Sampled:
    """An engine that samples for each policy as its team does."""

    shares_weights = False

    def __init__(self, engine: EngineByBase, of: dict[str, Sampling]) -> None:
        self.engine, self._of = engine, of

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        for one in requests:
            one.sampling = self._of[one.policy]
        return await self.engine.generate(requests)

    def end_sessions(self, start: str = "") -> None:
        self.engine.end_sessions(start)


class Cast:
    """Who sits in the seats of a schedule. RecipeError at once where two endpoints share a name."""

    def __init__(self, teams: Sequence[Team], schedule: Schedule, seed: int) -> None:
        self.schedule, self.seed = schedule, seed
        asked = schedule.policies
        self.remote = make_remote(remotes_of(teams, asked))
        self.homes: dict[str, tuple[str, str]] = {}
        self.bases = Bases({}, self._home)
        self.banks = Banks({}, self._home)
        engines: dict[str, HFEngine] = {}
        known: dict[str, str] = {}
        for team in teams:
            if team.recipe is None:
                continue
            keys = {key: self._base(view, known) for key, view in views_of(team.recipe).items()}
            self._seat(team, keys, asked)
            for key in keys.values():
                if key not in engines:
                    batch = team.recipe.engine.max_batch
                    engines[key] = HFEngine(self.banks.each[key], self.bases.each[key].chat.stop_ids, max_batch=batch)
        sampling = {policy: team.sampling for team in teams for policy in asked if policy.startswith(f"{team.name}/")}
        self.engines = engines
        self.model = Sampled(EngineByBase(engines, self._home), sampling)
        recipes = [team.recipe.rollout for team in teams if team.recipe is not None]
        self.deadline = max((one.deadline for one in recipes), default=3600.0)
        self.attempts = max((one.attempts for one in recipes), default=3)

    def _home(self, policy: str) -> tuple[str, str]:
        return self.homes[policy]

    def _base(self, view: Recipe, known: dict[str, str]) -> str:
        """The key of the base of this view, which is loaded unless it is there."""
        settings = view.model.model_dump(mode="json", exclude={"name", "tiny"})
        same = json.dumps([base_source(view), settings], sort_keys=True)
        if same not in known:
            key = known[same] = f"base{len(known)}"
            base = load_base(view)
            self.bases.each[key] = base
            self.banks.each[key] = AdapterBank(base.model, packing=False)
        return known[same]

    def _seat(self, team: Team, keys: dict[str, str], asked: set[str]) -> None:
        """The team's adapters and frozen ones, each on its base, under the names that episodes record."""
        for agent, folder in team.adapters.items():
            name = f"{team.name}/{agent}"
            key = keys[home_of(team.recipe, agent).base]
            self.homes[name] = (key, name)
            if name in asked:
                self.banks.each[key].load(name, folder)
        for policy in asked:
            own, _, rest = policy.partition("/")
            if own != team.name or not rest.startswith(FROZEN):
                continue
            key, name = home_of(team.recipe, rest) if team.kind != "model" else (next(iter(keys)), BARE)
            self.homes[policy] = (keys[key], name)
            bank = self.banks.each[keys[key]]
            if name != BARE and name not in bank.names:
                bank.load(name, name.removeprefix(FROZEN))

    def rollout(self, matches: Sequence[Match], on_episode: Callable[[Episode], None] | None = None) -> Rollout:
        """What plays these matches, which are of one game."""
        game = make_game(matches[0].game, matches[0].options)
        return Rollout(
            make_game=game_maker(game),
            chat=self.bases.chat,
            model=self.model,
            scripted=ScriptedEngine(self._players(game, matches)),
            sampling=Sampling(),
            learners=(),
            seed=derive(self.seed, "eval"),
            attempts=self.attempts,
            deadline=self.deadline,
            on_episode=on_episode,
            remote=self.remote,
        )

    def nash_conv(self, pair: Pair) -> float:
        """Exact, of the policies that sit in the pair's match, at temperature 1."""
        match = self.schedule.matches[pair.group]
        (table,) = match.tables
        scorer = make_scorer(self.bases, self.banks, TOKENS_AT_ONCE)
        game = make_game(match.game, match.options)
        return measure_exactly(game, TextPolicy(scorer, self.bases.chat, table)).nash_conv

    def _players(self, game: Game, matches: Sequence[Match]) -> dict[str, Player]:
        return {
            name: load_player(game, name.removeprefix(SCRIPTED), "--against")
            for name in set[str]().union(*(match.policies for match in matches))
            if name.startswith(SCRIPTED)
        }


def remotes_of(teams: Sequence[Team], asked: set[str]) -> dict[str, Remote]:
    """The endpoints that sit in seats; one name means one endpoint."""
    found: dict[str, Remote] = {}
    for team in teams:
        own = {team.name: team.remote} if team.remote is not None else {}
        if team.recipe is not None:
            own |= team.recipe.remotes
        for name, remote in own.items():
            if f"{REMOTE}{name}" in asked and found.setdefault(name, remote) != remote:
                raise RecipeError(
                    f"eval: remotes.{name} of {team.name} differs from another team's; give it a new name"
                )
    return found
