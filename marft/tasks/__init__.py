"""Task sets: questions with true answers, by name or from a file, split into train and test once and for all.

    tasks = load_tasks(TaskOptions(set="reasoning_gym:chain_sum", options={"min_terms": 2}))
    task = tasks.draw(seed)

Which split a question is in is a hash of the question, so that the two share none whatever seed, size or level is asked
for. A set is loaded once a process and kept.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from pydantic import ValidationError

from marft.errors import RecipeError
from marft.lookup import explain, nearest
from marft.seeds import derive
from marft.tasks import arithmetic, files, reasoning
from marft.tasks.options import TaskOptions
from marft.tasks.taskset import Task, TaskSet, draws, gather, split_of

__all__ = ["Task", "TaskOptions", "TaskSet", "load_tasks", "split_of"]


def load_tasks(options: TaskOptions) -> TaskSet:
    """The tasks of the options' split; RecipeError, with the key to change, where there are none to be had."""
    return _load(options.model_dump_json(), _stamp(options))


def _stamp(options: TaskOptions) -> tuple[int, ...]:
    """When the files were written, so that a changed one is read again."""
    paths = [options.path] if isinstance(options.path, str) else (options.path or {}).values()
    return tuple(Path(path).stat().st_mtime_ns if Path(path).exists() else 0 for path in paths)


@lru_cache(maxsize=16)
def _load(text: str, stamp: tuple[int, ...]) -> TaskSet:
    options = TaskOptions.model_validate_json(text)
    if options.path is not None:
        rows, by_hash = files.questions(options)
        return gather(options, rows, endless=False, by_hash=by_hash)
    seed = derive(options.seed, "tasks", options.split) % 2**31
    source = options.source
    if source.startswith(reasoning.PREFIX):
        rows = reasoning.questions(source, options.options, options.level, seed, draws(options))
        return gather(options, rows, endless=True)
    if source != arithmetic.NAME:
        known = [arithmetic.NAME, f"{reasoning.PREFIX}NAME"]
        raise RecipeError(f"task.set: no set {source!r}{nearest(source, known)}; a file of one's own is task.path")
    try:
        kind = arithmetic.ArithmeticOptions.model_validate(options.options)
    except ValidationError as error:
        raise RecipeError(explain(error, arithmetic.ArithmeticOptions, "task.options.")) from None
    return gather(options, arithmetic.questions(kind, options.level or 0, seed), endless=True)
