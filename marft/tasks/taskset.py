"""Tasks, and a set of them: different questions, those of the test split never among those of train. Pure."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from functools import cached_property
from math import ceil
from typing import Any

from marft.errors import RecipeError
from marft.prompts import Prompt
from marft.tasks.options import TaskOptions

DRAWS = 640
"""Of a set that has no end, where `task.size` says nothing."""
PATIENCE = 2000
"""Draws without a new question after which a set is taken to have no more."""


@dataclass(frozen=True, slots=True)
class Task:
    """One question. answer: the true one as text, None where there is none. columns: the rest of its row, JSON-able."""

    question: str
    answer: str | None
    source: str
    columns: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TaskSet:
    """Different questions of one split. repeated: rows left out because their question stood there already. questions:
    as `same_question` writes them, before any template."""

    source: str
    tasks: tuple[Task, ...]
    repeated: int = 0
    questions: frozenset[str] = frozenset()

    def draw(self, seed: int) -> Task:
        """One task, the same for the same seed."""
        return self.tasks[random.Random(seed).randrange(len(self.tasks))]

    @cached_property
    def answers(self) -> tuple[str, ...]:
        """Different true answers of the set, at most a hundred: what a guess may be."""
        return tuple(dict.fromkeys(task.answer for task in self.tasks if task.answer is not None))[:100]


def same_question(question: str) -> str:
    """What two wordings of one question share: all but the spaces."""
    return " ".join(question.split())


def split_of(question: str, test_share: float) -> str:
    """The split a question belongs to. A function of the question alone: no seed, size or level can move it."""
    digest = hashlib.blake2b(same_question(question).encode("utf-8", "replace"), digest_size=8).digest()
    return "test" if int.from_bytes(digest) < test_share * 2**64 else "train"


def draws(options: TaskOptions) -> int:
    """How many draws of a set bring what the options want, by a wide margin."""
    share = options.test_share if options.split == "test" else 1 - options.test_share
    return DRAWS if options.size is None else ceil(2 * options.size / share)


def gather(
    options: TaskOptions,
    rows: Iterable[Task],
    endless: bool,
    by_hash: bool = True,
    without: Set[str] = frozenset(),
) -> TaskSet:
    """The set that the options want of these rows; RecipeError where they hold too few different questions.

    endless: rows are drawn, and could go on for ever. by_hash: rows of the other split are among them. without:
    questions that are left out, as `same_question` writes them.
    """
    wanted, kept, repeated, drawn, found = options.size, {}, 0, 0, 0
    for row in rows:
        drawn += 1
        if not by_hash or split_of(row.question, options.test_share) == options.split:
            key = same_question(row.question)
            if key in kept or key in without:
                repeated += 1
            else:
                kept[key], found = row, drawn
        if len(kept) == wanted or (endless and (drawn - found > PATIENCE or (wanted is None and drawn == DRAWS))):
            break
    if len(kept) < (wanted or 1):
        new = " that no earlier stage or test file asks" if without else ""
        raise RecipeError(
            f"task.size: {options.source} has only {len(kept)} different questions{new} in its {options.split} split "
            f"among {drawn}, not {wanted or 1}; lower task.size, or change task.options or task.test_share"
        )
    return TaskSet(options.source, tuple(_prompted(kept.values(), options)), repeated, frozenset(kept))


def _prompted(tasks: Iterable[Task], options: TaskOptions) -> Iterator[Task]:
    """The tasks with their questions put into the template."""
    prompt = None
    for task in tasks:
        if options.template is None:
            yield task
            continue
        values = {**task.columns, "question": task.question}
        try:
            prompt = prompt or Prompt(options.template, tuple(values))
            yield Task(prompt.render(**values), task.answer, task.source, task.columns)
        except ValueError as error:
            raise RecipeError(f"task.template: {error} (at the question {task.question[:80]!r})") from None


def json_able(value: Any) -> Any:
    """The value as it comes back from JSON, so that an episode holds it; what JSON does not know becomes its text."""
    return json.loads(json.dumps(value, default=_text, allow_nan=False, skipkeys=False))


def _text(value: Any) -> Any:
    return sorted(value, key=repr) if isinstance(value, set | frozenset) else str(value)
