"""What games of questions and answers share: a task for each episode, what of a text the others see, views, facts.

A game draws its task from the set that the recipe names (`task:`). Its scripted players may see the true answer, by
their `view`; no message ever holds it. State of an episode lies in attributes that are immutable, or flat lists and
dicts of immutable values: `clone` copies one level.
"""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple

from pydantic import ConfigDict, Field

from marft.answers import final_answer, same_answer
from marft.game import Game, Message, Options, StepResult
from marft.tasks import TaskOptions, load_tasks

FORM = "<answer>…</answer>"
_same = lru_cache(maxsize=4096)(same_answer)


class DialogueOptions(Options):
    """task: where the questions come from, see `marft.tasks`. message_limit: characters of a text that others see."""

    model_config = ConfigDict(defer_build=True)

    task: TaskOptions = TaskOptions()
    message_limit: int = Field(2000, ge=1, le=100_000, strict=True)


class DialogueView(NamedTuple):
    """What a scripted player knows; more than a model does, for it may see the truth.

    phase: what is asked for, see the game. truth: the true answer, None where there is none. guesses: answers that
    questions of this set have. heard: the answers in the texts it was shown last, in their order, None for a text
    without one. own: the answer it gave last. now: what else is known; see the game.
    """

    seat: str
    seats: tuple[str, ...]
    phase: str
    question: str
    truth: str | None
    guesses: Sequence[str]
    heard: tuple[str | None, ...]
    own: str | None
    now: Mapping[str, Any]


class DialogueGame(Game):
    """Base of the games: see the module. Subclasses write `_start`, `_play`, `observe` and `view`."""

    Options: ClassVar[type[DialogueOptions]] = DialogueOptions
    _turn: tuple[str, ...]

    def __init__(self, options: DialogueOptions | None = None) -> None:
        super().__init__(options)
        self.tasks = load_tasks(self.options.task)

    @abstractmethod
    def _start(self, seed: int) -> None:
        """Begin an episode about `self.task`: set `_turn`. seed: of further chance."""

    @abstractmethod
    def _play(self, texts: Mapping[str, str]) -> StepResult:
        """Take the texts of the seats in `_turn`, and set `_turn` to those that answer next (empty: over)."""

    def reset(self, seed: int) -> None:
        self.clock = 0
        self.task = self.tasks.draw(seed)
        self._start(seed + 2**63)  # not the seed that drew the task

    def acting(self) -> tuple[str, ...]:
        return self._turn

    def act(self, texts: Mapping[str, str]) -> StepResult:
        if not self._turn:
            raise RuntimeError("the episode is over: call reset before act")
        return self._play({seat: texts[seat] for seat in self._turn})

    def right(self, answer: str | None) -> bool:
        """Whether an answer is the true one."""
        return _same(answer, self.task.answer)

    def roles(self) -> dict[str, str]:
        """seat -> its role."""
        return dict.fromkeys(self.seats, "member")

    def marks(self, seat: str) -> dict[str, str | int | float]:
        return {"role": self.roles()[seat]}

    def facts(self) -> dict[str, Any]:
        """question, answer, task (the set's name), columns (the rest of the task's row), roles (of the seats). With a
        curriculum also stage: which one was asked."""
        task, stage = self.task, self.options.task.asked
        return {
            "question": task.question,
            "answer": task.answer,
            "task": task.source,
            "columns": dict(task.columns),
            "roles": self.roles(),
            "played": 1,
            **({} if stage is None else {"stage": stage}),
        }

    def clone(self) -> DialogueGame:
        twin = object.__new__(type(self))
        twin.__dict__.update(
            (key, value.copy() if isinstance(value, list | dict) else value) for key, value in self.__dict__.items()
        )
        return twin


def said(text: str, limit: int) -> str:
    """What of a text others are shown: `limit` characters, lines kept, nothing unprintable."""
    text = text.strip()[:limit]
    return text if text.isprintable() else "".join(c if c.isprintable() or c in "\n\t" else " " for c in text)


def wrong_guess(view: DialogueView, rng: random.Random) -> str:
    """An answer of the set that is not the true one; "0" or "1" where there is no other."""
    others = [guess for guess in view.guesses if guess != view.truth]
    return rng.choice(others) if others else "01"[view.truth == "0"]


def one_message(*lines: str) -> list[Message]:
    """Lines as one message to a seat."""
    return [Message("user", "\n".join(line for line in lines if line))]


def reads(text: str) -> str | None:
    """The final answer of a text, as it can be stored and shown again."""
    found = final_answer(text)
    return None if found is None else said(found, len(found)).strip() or None
