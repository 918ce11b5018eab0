"""What an evaluation is, as data: the suite, the teams, how much is played. Nothing is loaded and nothing played here.

A suite is a list of entries, each a game and who meets whom at it; built-in ones lie in `suites/`. A user's file has
the same keys and may build on a built-in suite (`suite: social`); flags come on top of it, `--set` on top of those.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field, ValidationError, field_validator, model_validator

from marft.config import Game, Remote, Sampling, Strict
from marft.errors import RecipeError
from marft.lookup import explain, nearest
from marft.recipe import apply_override, merge, read_yaml
from marft.tasks.options import Split

ALL = "all"
Summary = Literal["social", "games", "gama", "reasoning", "cross_play", "safety"]


class TeamSpec(Strict):
    """Who plays under a name. A bare string is its `source`.

    A source is a run folder, a published one, a folder of PEFT adapters (with `recipe`), a folder with a model, `tiny`,
    `model:NAME` of the hub, `script:PLAYER`, or `https://host/v1#MODEL`, an endpoint.
    """

    source: str | None = None
    recipe: str | None = Field(None, description="gives base, seats and sampling where the source has no recipe")
    remote: Remote | None = Field(None, description="a chat endpoint, in the place of a source")
    sampling: Sampling | None = Field(None, description="default: the recipe's")

    @model_validator(mode="before")
    @classmethod
    def _bare_source(cls, data: Any) -> Any:
        return spec_of(data) if isinstance(data, str) else data

    @model_validator(mode="after")
    def _one_of(self) -> TeamSpec:
        if (self.source is None) == (self.remote is None):
            raise ValueError("a team has either a source or a remote")
        return self


def spec_of(what: str) -> dict[str, Any]:
    """A source as it is written on the command line."""
    if re.match(r"https?://", what):
        url, mark, model = what.partition("#")
        if not mark or not model:
            raise RecipeError(f"--team: {what} names no model; write https://host/v1#MODEL")
        return {"remote": {"url": url, "model": model}}
    return {"source": what}


class Entry(Strict):
    """A game of a suite, and who meets whom at it.

    game: default the teams' own. self: each team with itself. against: each team in one seat, a scripted player in all
    others; `all` for every player of the game. intruders: one seat to a scripted player, the team in all others, where
    there are more than two. others: each team against each other, seats swapped.
    kind, greedy: the scripted players at the two ends of the scale on which dilemmas are measured. cooperation: the
    game's metric of it, 0 to 1. demands: the action that attacks ask for. control: the opponent without an attack.
    exact: NashConv, where every information state can be asked. votes: so many independent answers of a team's first
    agent to each question.
    """

    model_config = ConfigDict(populate_by_name=True)

    game: Game | None = None
    self_play: bool = Field(True, alias="self")
    against: tuple[str, ...] = ()
    intruders: tuple[str, ...] = ()
    others: bool = False
    kind: str | None = None
    greedy: str | None = None
    cooperation: str | None = None
    demands: str | None = None
    control: str | None = None
    exact: bool = False
    votes: int = Field(0, ge=0, le=256)

    @field_validator("against", "intruders", mode="before")
    @classmethod
    def _listed(cls, data: Any) -> Any:
        return players_in(data) if isinstance(data, str) else data


class Evaluation(Strict):
    """An evaluation, whole."""

    suite: str = "own"
    about: str = Field("", description="one line on what the suite measures")
    summary: Summary | None = Field(None, description="which headlines are computed")
    teams: dict[str, TeamSpec] = Field(default_factory=dict)
    game: Game | None = Field(None, description="in the place of the teams' own game")
    games: tuple[Entry, ...] = Field(min_length=1)
    against: tuple[str, ...] | None = Field(None, description="scripted players in the place of the suite's")
    options: dict[str, Any] = Field(default_factory=dict, description="changes to every game that has these options")
    episodes: int = Field(64, ge=1, description="instances per match")
    seeds: int = Field(1, ge=1, le=1000, description="sampling seeds: how often each instance is played")
    seed: int = Field(0, ge=0, description="of instances and sampling")
    limit: int | None = Field(None, ge=1, description="only the first so many instances of each match")
    split: Split = Field("test", description="of the tasks, where a game asks questions of a set")
    resamples: int = Field(200, ge=5, description="bootstrap resamples behind the intervals")
    sampling: Sampling | None = Field(None, description="of all teams; default each team's own")
    recipe: str | None = Field(None, description="for teams whose source has none")
    out: str = "runs/eval"

    @field_validator("against", mode="before")
    @classmethod
    def _listed(cls, data: Any) -> Any:
        return players_in(data) if isinstance(data, str) else data

    @property
    def instances(self) -> int:
        return min(self.episodes, self.limit or self.episodes)


def players_in(text: str) -> tuple[str, ...]:
    """The players of a list with commas; `none` is nobody. Commas within brackets belong to a player."""
    names = [name.strip() for name in re.split(r",(?![^(]*\))", text) if name.strip()]
    return () if names == ["none"] else tuple(names)


def suites() -> dict[str, str]:
    """The built-in suites and what each measures."""
    folder = resources.files("marft.eval").joinpath("suites")
    names = sorted(Path(str(one)).stem for one in folder.iterdir() if str(one).endswith(".yaml"))
    return {name: _built_in(name).get("about", "") for name in names}


def _built_in(name: str) -> dict[str, Any]:
    with resources.as_file(resources.files("marft.eval").joinpath("suites", f"{name}.yaml")) as path:
        return read_yaml(path)


def load_evaluation(suite: str, flags: Mapping[str, Any] | None = None, changes: Sequence[str] = ()) -> Evaluation:
    """A built-in suite by name, or a file, with flags and `key=value` changes on top of it."""
    known = suites()
    if suite in known:
        data = {"suite": suite, **_built_in(suite)}
    elif suite.endswith((".yaml", ".yml")) or Path(suite).is_file():
        data = read_yaml(Path(suite))
        under = data.get("suite")
        if under is not None and under not in known:
            if "games" not in data:
                raise RecipeError(f"{suite}: suite: no suite {under!r}{nearest(str(under), known)}")
        elif under is not None:
            data = merge(_built_in(under), data)
        data.setdefault("suite", Path(suite).stem)
    else:
        raise RecipeError(f"eval: no suite {suite!r}{nearest(suite, known)} (a file of your own ends in .yaml)")
    data["teams"] = {name: spec_of(one) if isinstance(one, str) else one for name, one in _teams(data).items()}
    data = merge(data, {key: value for key, value in (flags or {}).items() if value is not None})
    for change in changes:
        apply_override(data, change)
    try:
        return Evaluation.model_validate(data)
    except ValidationError as error:
        raise RecipeError(explain(error, Evaluation)) from None


def _teams(data: Mapping[str, Any]) -> Mapping[str, Any]:
    teams = data.get("teams") or {}
    if not isinstance(teams, Mapping):
        raise RecipeError(f"teams: must be a mapping of names to sources, got {teams!r}")
    return teams
