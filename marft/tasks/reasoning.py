"""Sets of reasoning-gym by name, with their curricula: `pip install 'marft[reasoning]'`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from marft.errors import RecipeError
from marft.lookup import nearest, short
from marft.tasks.taskset import Task, json_able

PREFIX = "reasoning_gym:"


def questions(source: str, options: Mapping[str, Any], level: int | None, seed: int, most: int) -> Iterator[Task]:
    """The first `most` entries of a set; the column `entry` is what the set's own grader wants to see.

    An entry of reasoning-gym is drawn from its seed plus its number, so that seeds must lie far apart to differ.
    Raises RecipeError for an unknown set, options it does not take, or where reasoning-gym is not installed.
    """
    dataset = _dataset(source, options, level, seed, most)
    for number in range(most):
        entry = dataset[number]
        columns = {"entry": json_able(dict(entry))}
        yield Task(str(entry["question"]), None if entry["answer"] is None else str(entry["answer"]), source, columns)


def _dataset(source: str, options: Mapping[str, Any], level: int | None, seed: int, most: int) -> Any:
    try:
        from reasoning_gym.factory import CURRICULA, DATASETS, create_curriculum, create_dataset
    except ImportError:
        raise RecipeError(f"task.set: {source} needs reasoning-gym; pip install 'marft[reasoning]'") from None
    name = source.removeprefix(PREFIX)
    if name not in DATASETS:
        raise RecipeError(f"task.set: reasoning-gym has no set {name!r}{nearest(name, DATASETS)}")
    for key in ("seed", "size"):
        if key in options:
            raise RecipeError(f"task.options.{key}: say task.{key} instead")
    given = {**options, "seed": seed, "size": most}
    try:
        if level is None:
            return create_dataset(name, **given)
        if name not in CURRICULA:
            raise RecipeError(f"task.level: {source} has no curriculum; set task.options instead")
        curriculum = create_curriculum(name)
        curriculum.set_global_level(level)
        config = curriculum.generate_configuration(dict(given))
        for key, value in options.items():  # what the recipe says goes before what the level would be
            setattr(config, key, value)
        if hasattr(config, "validate"):
            config.validate()
        return DATASETS[name][0](config=config)
    except (TypeError, ValueError, AssertionError, KeyError) as error:
        raise RecipeError(
            f"task.options: {source} does not take {short(dict(options))} (level {level}): {error}"
        ) from None
