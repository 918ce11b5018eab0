"""A curriculum that rises within a run: which stage of its tasks is asked, and when the next one begins. Pure.

Where a run stands follows from its metrics, update by update; they are the same on every process of a launch, and what
has been seen of them is kept in the checkpoints, so that a resumed run goes on at the very stage it had come to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import fsum, nan
from typing import Any

from marft.config import Recipe
from marft.errors import RecipeError
from marft.game import Game
from marft.games import make_game
from marft.games.mixture import Mixture
from marft.lookup import nearest
from marft.tasks import TaskOptions
from marft.tasks.options import Until


class Curriculum:
    """Where a run stands.

    games: one a stage. untils: when each ends, None for the last. stage: the one that is asked now, from 0.
    """

    def __init__(self, games: Sequence[Game], untils: Sequence[Until | None]) -> None:
        self.games, self.untils = games, untils
        self.restore({})

    @property
    def game(self) -> Game:
        """The game as it is played now."""
        return self.games[self.stage]

    def note(self, metrics: Mapping[str, float]) -> None:
        """An update was made at this stage; its metrics may end it. What is missing or NaN never does."""
        until = self.untils[self.stage]
        if until is None:
            return
        self._updates += 1
        if until.metric is not None:
            self._seen = [*self._seen, float(metrics.get(until.metric, nan))][-until.window :]
        if self._over(until):
            self.restore({"stage": self.stage + 1})

    def _over(self, until: Until) -> bool:
        if until.metric is None:
            return self._updates >= until.updates
        return len(self._seen) == until.window and fsum(self._seen) / until.window >= until.reaches

    def state(self) -> dict[str, Any]:
        """What a resumed run has to know, JSON values."""
        return {"stage": self.stage, "updates": self._updates, "seen": self._seen}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` said; from the first stage where that is empty."""
        self.stage: int = state.get("stage", 0)
        self._updates: int = state.get("updates", 0)
        self._seen: list[float] = list(state.get("seen", ()))


def curriculum_of(recipe: Recipe) -> Curriculum | None:
    """The recipe's curriculum at its start; None where its tasks stay as they are."""
    game = make_game(recipe.game.name, recipe.game.options)
    games = stages_of(game)
    return Curriculum(games, [stage.until for stage in _task(game.options).curriculum]) if games else None


def stages_of(game: Game) -> list[Game]:
    """The game at each stage of its tasks; empty where they do not rise. RecipeError where a stage cannot be played."""
    task = _task(game.options)
    if task is None or not task.rises:
        return []
    numbers = range(len(task.curriculum))
    tasks = [task.model_copy(update={"stage": number}) for number in numbers]
    return [type(game)(game.options.model_copy(update={"task": one})) for one in tasks]


def _task(options: Any) -> TaskOptions | None:
    task = getattr(options, "task", None)
    return task if isinstance(task, TaskOptions) else None


def check_curriculum(recipe: Recipe) -> None:
    """A recipe whose tasks rise must have stages that can be played, and wait for what its runs measure."""
    game = make_game(recipe.game.name, recipe.game.options)
    for part in game.parts if isinstance(game, Mixture) else ():
        if (task := _task(part.options)) is not None and task.rises:
            raise RecipeError(
                f"game.games: the tasks of {part.name} have a curriculum, and those of a mixture do not rise; choose a "
                "stage by task.stage, or train on that game alone"
            )
    if not stages_of(game):
        return
    if recipe.rollout.max_staleness:
        raise RecipeError(
            f"game.task.curriculum: rollout.max_staleness is {recipe.rollout.max_staleness}, and what is played ahead "
            "does not know its stage yet; set rollout.max_staleness 0, or choose one stage by game.task.stage"
        )
    known = [f"reward/{name}" for name in recipe.terms]
    known += [f"game/{key}" for key in {**game.metrics([], game.seats), **game.meanings()}]
    for number, stage in enumerate(_task(game.options).curriculum):
        metric = stage.until.metric if stage.until is not None else None
        if metric is not None and metric not in known:
            raise RecipeError(
                f"game.task.curriculum[{number}].until.metric: no metric {metric!r} in what is measured of the game "
                f"and its rewards{nearest(metric, known)}"
            )


def told(recipe: Recipe) -> list[str]:
    """Each stage in a line: what is asked, and until when."""
    curriculum = curriculum_of(recipe)
    if curriculum is None:
        return []
    said = []
    for game, until in zip(curriculum.games, curriculum.untils, strict=True):
        stage = game.options.task.stages[game.options.task.asked]
        level = f", level {stage.level}" if stage.level is not None else ""
        options = "".join(f", {key} {value}" for key, value in stage.options.items())
        end = f"the next one {until}" if until is not None else "to the end"
        said.append(f"{stage.source}{level}{options}: {len(game.tasks.tasks):,} questions; {end}")
    return said
