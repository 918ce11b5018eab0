"""Who plays under a team's name: a trained team, a bare model, an endpoint, or a scripted player.

Any of them may sit at any game. At a game with the seats of its own recipe a team sits as the recipe says, with the
scripted and remote company it was given there. At any other game only its models sit: in a seat of the same name as at
home the same agent, in all others its agents in order, over and over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from marft.banks import AnyBank
from marft.bases import Home, home_of, views_of
from marft.config import Game, Policy, Recipe, Remote, Sampling
from marft.engines.route import REMOTE, SCRIPTED, WITHOUT_TOKENS
from marft.errors import RecipeError, RunFolderError
from marft.eval.evaluation import Evaluation, TeamSpec
from marft.files import file_hash
from marft.publish.folder import ADAPTER
from marft.publish.load import is_published, published_recipe
from marft.recipe import load_recipe, parse_recipe
from marft.train.checkpoint import newest_adapters
from marft.train.folder import is_run, run_recipe

if TYPE_CHECKING:
    from marft.banks import AnyBank

SCRIPT, MODEL = "script:", "model:"
BARE = "frozen:base"


@dataclass(frozen=True)
class Team:
    """One team. kind: run, published, adapters, model, endpoint or script.

    recipe: None of endpoints and scripts; of a bare model one that names its base alone. adapters: agent -> its PEFT
    folder. policy_everywhere: of endpoints, scripts and bare models, who answers in every seat.
    """

    name: str
    source: Path | str
    recipe: Recipe | None
    adapters: dict[str, Path] = field(default_factory=dict)
    kind: str = "run"
    policy_everywhere: str | None = None
    remote: Remote | None = None
    sampling_given: Sampling | None = None

    @property
    def game(self) -> Game | None:
        """Its own game."""
        return self.recipe.game if self.recipe is not None and self.kind != "model" else None

    @property
    def player(self) -> str:
        """A scripted team's player."""
        return (self.policy_everywhere or "").removeprefix(SCRIPTED)

    @property
    def sampling(self) -> Sampling:
        return self.sampling_given or (self.recipe.sampling if self.recipe is not None else Sampling())

    def named(self, policy: Policy) -> str:
        """A policy of the recipe as episodes record it; models are told apart by the team's name."""
        return f"{self.name}/{policy}" if policy.by_model else str(policy)

    def policy(self, seat: str) -> str:
        """Who sits there at its own game, as the recipe calls it: agents alone by the team's name."""
        own = self.recipe.team[seat].own
        return f"{self.name}/{own.agent}" if own.agent is not None else str(own)

    def load_into(self, bank: AnyBank, agents: Iterable[str] | None = None) -> None:
        """Its adapters, or these agents' alone, under the names of their policies."""
        for agent in self.adapters if agents is None else agents:
            name = f"{self.name}/{agent}"
            bank.of(name).load(name, self.adapters[agent])

    def models(self) -> list[str]:
        """Its policies that a model answers for, in the order of its seats."""
        if self.policy_everywhere is not None:
            return [self.policy_everywhere]
        seats = [seat.own for seat in self.recipe.team.values()]
        return list(dict.fromkeys(self.named(one) for one in seats if one.by_model))

    def seated(self, game: str, seats: Sequence[str]) -> dict[str, str]:
        """seat -> policy at any game."""
        if self.policy_everywhere is not None:
            return dict.fromkeys(seats, self.policy_everywhere)
        at_home = self.recipe.team
        if game == self.recipe.game.name and set(seats) == set(at_home):
            return {seat: self.named(at_home[seat].own) for seat in seats}
        models, found = self.models(), {}
        for number, seat in enumerate(seats):
            own = at_home[seat].own if seat in at_home else None
            found[seat] = self.named(own) if own is not None and own.by_model else models[number % len(models)]
        return found

    def measured(self, seated: Mapping[str, str]) -> tuple[str, ...]:
        """The seats that are the team's and not those of company that its recipe gave it."""
        if self.policy_everywhere is not None:
            return tuple(seated)
        return tuple(seat for seat, policy in seated.items() if not policy.startswith(WITHOUT_TOKENS))

    def facts(self) -> dict[str, Any]:
        """What results.json says of it."""
        facts: dict[str, Any] = {"kind": self.kind, "source": str(self.source)}
        if self.recipe is None:
            return facts
        if self.kind != "model":
            facts["recipe"] = self.recipe.name
            facts["adapters"] = {agent: file_hash(path / ADAPTER[1]) for agent, path in self.adapters.items()}
        names = {key: view.model.name for key, view in views_of(self.recipe).items()}
        return facts | {"bases": names, "sampling": self.sampling.model_dump()}


def load_teams(evaluation: Evaluation) -> list[Team]:
    """All teams; no model is loaded yet."""
    if not evaluation.teams:
        raise RecipeError("eval: no team; name one or several, --team NAME=WHAT")
    for name in evaluation.teams:
        if not name or "/" in name or "@" in name or ":" in name:
            raise RecipeError(f"teams.{name}: a team's name may hold no / : or @; give it one, NAME=WHAT")
    return [_team(name, spec, evaluation) for name, spec in evaluation.teams.items()]


def _team(name: str, spec: TeamSpec, evaluation: Evaluation) -> Team:
    sampling = evaluation.sampling or spec.sampling
    if spec.remote is not None:
        source = f"{spec.remote.url}#{spec.remote.model}"
        return Team(name, source, None, {}, "endpoint", f"{REMOTE}{name}", spec.remote)
    source, given = str(spec.source), spec.recipe or evaluation.recipe
    if source.startswith(SCRIPT):
        return Team(name, source, None, {}, "script", f"{SCRIPTED}{source.removeprefix(SCRIPT)}")
    if source == "tiny" or source.startswith(MODEL) or _is_model(Path(source)):
        recipe = _bare(source.removeprefix(MODEL), given, evaluation)
        return Team(name, source, recipe, {}, "model", f"{name}/{BARE}", None, sampling)
    path = Path(source)
    team = load_team(name, path, Path(given) if given is not None and not _has_recipe(path) else None)
    kind = "published" if is_published(path) else "run" if is_run(path) else "adapters"
    return Team(name, path, team.recipe, team.adapters, kind, None, None, sampling)


def _is_model(path: Path) -> bool:
    return (path / "config.json").is_file() and not _has_recipe(path)


def _has_recipe(path: Path) -> bool:
    return is_published(path) or is_run(path)


def _bare(model: str, given: str | None, evaluation: Evaluation) -> Recipe:
    """A recipe for a model alone. `tiny` is warmed up on its game: the recipe's, else the first of the evaluation."""
    if given is not None:
        recipe = load_recipe(given)
        if model == recipe.model.name:
            return recipe
        return recipe.model_copy(update={"model": recipe.model.model_copy(update={"name": model}), "models": {}})
    games = [entry.game for entry in evaluation.games if entry.game is not None]
    game = evaluation.game or (games[0] if games else None)
    if game is None:
        if model == "tiny":
            raise RecipeError("--team tiny: it is warmed up on a game; name it, --recipe RECIPE or --set game=NAME")
        game = Game(name="bandit")  # a recipe needs one; nothing of it is used
    data = {"name": "model", "model": model, "game": game.model_dump(), "agents": {"solo": {}}, "algorithm": "grpo"}
    return parse_recipe(data)


def load_team(name: str, path: Path, recipe: Path | None) -> Team:
    """A team from a run folder or a published one, or with `recipe` from a folder with one PEFT folder per agent."""
    if recipe is None and is_published(path):
        settings, folder = published_recipe(path), path
    elif recipe is None:
        settings, folder = run_recipe(path), newest_adapters(path)
    else:
        settings, folder = load_recipe(recipe), path
    adapters = {agent: folder / agent for agent in settings.agents}
    for agent, place in adapters.items():
        if not (place / "adapter_config.json").is_file():
            raise RunFolderError(f"eval: {name} has no adapter of {agent} at {place}; has the run saved a checkpoint?")
    return Team(name, path, settings, adapters)


def home_in(teams: Sequence[Team]) -> Callable[[str], Home]:
    """Where a policy of these teams is at home: "team/agent", or what their recipes call by the same name."""
    own = {f"{team.name}/{agent}": home_of(team.recipe, agent).base for team in teams for agent in team.adapters}
    return lambda policy: Home(own[policy], policy) if policy in own else home_of(teams[0].recipe, policy)
