"""Task sets: questions with true answers, by name or from a file, split into train and test once and for all.

    tasks = load_tasks(TaskOptions(set="reasoning_gym:chain_sum", options={"min_terms": 2}))
    task = tasks.draw(seed)

Which split a question is in is a hash of the question, so that the two share none whatever seed, size or level is asked
for. A question that several stages of a curriculum have is asked in the first of them only. A set is loaded once a
process and kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Set
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from pydantic import ValidationError

from marft.errors import RecipeError
from marft.lookup import explain, nearest
from marft.seeds import derive
from marft.tasks import arithmetic, files, reasoning
from marft.tasks.options import TaskOptions
from marft.tasks.taskset import Task, TaskSet, draws, gather, same_question, split_of

__all__ = ["Task", "TaskOptions", "TaskSet", "load_tasks", "split_of"]


def load_tasks(options: TaskOptions) -> TaskSet:
    """The tasks of the options' split; RecipeError, with the key to change, where there are none to be had."""
    return (_load_stage if options.curriculum else _load)(options.model_dump_json(), _stamp(options))


def _stamp(options: TaskOptions) -> tuple[int, ...]:
    """When the files were written, so that a changed one is read again."""
    given = (options.path, *(stage.path for stage in options.curriculum))
    paths = [path for one in given for path in ([one] if isinstance(one, str) else (one or {}).values())]
    return tuple(Path(path).stat().st_mtime_ns if Path(path).exists() else 0 for path in paths)


@lru_cache(maxsize=16)
def _load(text: str, stamp: tuple[int, ...]) -> TaskSet:
    return _gathered(TaskOptions.model_validate_json(text))


@lru_cache(maxsize=64)
def _load_stage(text: str, stamp: tuple[int, ...]) -> TaskSet:
    """Of the stage that is asked: in training what no earlier stage asks, else all of it."""
    options = TaskOptions.model_validate_json(text)
    stages = options.stages
    taken = _of_test_files(stages)
    if options.split == "test":
        with _named(options.asked):
            return _gathered(stages[options.asked])
    for number, stage in enumerate(stages[: options.asked + 1]):
        with _named(number):
            found = _gathered(stage, taken)
        taken |= found.questions
    return found


@contextmanager
def _named(number: int) -> Iterator[None]:
    """Complaints about the tasks of a stage say which one."""
    try:
        yield
    except RecipeError as error:
        raise RecipeError(f"task.curriculum[{number}]: {error}") from None


def _of_test_files(stages: Sequence[TaskOptions]) -> set[str]:
    """What the stages' own test files ask, which no stage may train on; without such files the hash takes care.

    Raises RecipeError where some stages have test files and others go by the hash.
    """
    asked: set[str] = set()
    kinds = []
    for number, stage in enumerate(stages):
        with _named(number):
            rows, _, by_hash = _rows(stage.model_copy(update={"split": "test"}))
            if not by_hash:
                asked.update(same_question(row.question) for row in rows)
        kinds.append(by_hash)
    if any(kinds) and not all(kinds):
        raise RecipeError(
            f"task.curriculum[{kinds.index(False)}].path: has a test file of its own, and stage {kinds.index(True)} "
            "is split by a hash; give all stages files for both, or none"
        )
    return asked


def _gathered(options: TaskOptions, without: Set[str] = frozenset()) -> TaskSet:
    rows, endless, by_hash = _rows(options)
    return gather(options, rows, endless, by_hash, without)


def _rows(options: TaskOptions) -> tuple[Iterable[Task], bool, bool]:
    """The tasks; whether they are drawn without end; whether those of the other split are among them."""
    if options.path is not None:
        rows, by_hash = files.questions(options)
        return rows, False, by_hash
    seed = derive(options.seed, "tasks", options.split) % 2**31
    source = options.source
    if source.startswith(reasoning.PREFIX):
        rows = reasoning.questions(source, options.options, options.level, seed, draws(options))
        return rows, True, True
    if source != arithmetic.NAME:
        known = [arithmetic.NAME, f"{reasoning.PREFIX}NAME"]
        raise RecipeError(f"task.set: no set {source!r}{nearest(source, known)}; a file of one's own is task.path")
    try:
        kind = arithmetic.ArithmeticOptions.model_validate(options.options)
    except ValidationError as error:
        raise RecipeError(explain(error, arithmetic.ArithmeticOptions, "task.options.")) from None
    return arithmetic.questions(kind, options.level or 0, seed), True, True
