"""Which tasks an evaluation asks: where a game has a task set, those of the split that training never draws from."""

from __future__ import annotations

from marft.config import Game
from marft.games import make_game
from marft.tasks import TaskOptions
from marft.tasks.options import Split


def on_split(game: Game, split: Split) -> Game:
    """The game with its `task.split` set; the game as it is where it has no tasks.

    Only for play: a tiny model is known by the game it was warmed up on, so its base is that of the recipe as it is.
    """
    task = task_of(game)
    if task is None:
        return game
    changed = task.model_dump(exclude_defaults=True) | {"split": split}
    if split != task.split:
        changed.pop("size", None)  # how many questions the recipe's own split is to have
    return Game(name=game.name, **game.options | {"task": changed})


def task_of(game: Game) -> TaskOptions | None:
    """The task set of a game; None where it has none."""
    task = getattr(make_game(game.name, game.options).options, "task", None)
    return task if isinstance(task, TaskOptions) else None
