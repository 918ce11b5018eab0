"""Which tasks an evaluation asks: where a game has a task set, those of the split that training never draws from."""

from __future__ import annotations

from marft.config import Recipe
from marft.games import make_game
from marft.tasks import TaskOptions
from marft.tasks.options import Split


def on_split(recipe: Recipe, split: Split) -> Recipe:
    """The recipe with its game's `task.split` set; the recipe as it is where its game has no tasks.

    Only for play: a tiny model is known by the game it was warmed up on, so its base is that of the recipe as it is.
    """
    task = task_of(recipe)
    if task is None:
        return recipe
    changed = task.model_dump(exclude_defaults=True) | {"split": split}
    if split != task.split:
        changed.pop("size", None)  # how many questions the recipe's own split is to have
    options = recipe.game.options | {"task": changed}
    return recipe.model_copy(update={"game": type(recipe.game)(name=recipe.game.name, **options)})


def task_of(recipe: Recipe) -> TaskOptions | None:
    """The task set of the recipe's game; None where it has none."""
    task = getattr(make_game(recipe.game.name, recipe.game.options).options, "task", None)
    return task if isinstance(task, TaskOptions) else None
