"""Reward functions in TRL's form, `(prompts, completions, **columns) -> [number or None, ...]`, as they are.

Each episode is a batch: the turns that are read are its completions. A prompt is what the seat had heard and said
before. Columns are the episode's facts and its task's columns, each as often as there are completions; a number becomes
what the seat is paid, and None pays nothing.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from marft.rewards.grading import Reading

if TYPE_CHECKING:
    from marft.episode import Episode, Turn

OWN = ("of", "seats", "roles", "share", "conversational")
"""Options that are marft's; all others go to the function."""


def is_trl(function: Callable[..., Any]) -> bool:
    """Whether a function has TRL's form: it takes `completions`."""
    return "completions" in inspect.signature(function).parameters


def from_trl(function: Callable[..., Any]) -> Callable[..., dict[str, Any]]:
    """A reward of a function in TRL's form.

    Options beside those of every text reward: conversational, prompts and completions are lists of {role, content}
    instead of texts. All others are handed to the function as they are.
    """
    parameters = inspect.signature(function).parameters.values()
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    names = {parameter.name for parameter in parameters}

    def reward(episode: Episode, conversational: bool = False, **options: Any) -> dict[str, Any]:
        reading = Reading(**{name: value for name, value in options.items() if name in OWN})
        turns = reading.turns(episode)
        if not turns:
            return reading.pay(episode, [])
        pairs = [_pair(turn, episode, conversational) for turn in turns]
        columns = _columns(episode, len(turns))
        given = {
            **columns,
            "completion_ids": [list(turn.completion_ids) for turn in turns],
            "trainer_state": None,
            **{name: value for name, value in options.items() if name not in OWN},
            "prompts": [prompt for prompt, _ in pairs],
            "completions": [completion for _, completion in pairs],
        }
        values = function(**(given if takes_any else {name: value for name, value in given.items() if name in names}))
        if inspect.iscoroutine(values):
            values.close()
            raise TypeError("it is a coroutine; make it an ordinary function")
        values = list(values)
        if len(values) != len(turns):
            raise ValueError(f"it gave {len(values)} values for {len(turns)} completions")
        paid = [(turn, value) for turn, value in zip(turns, values, strict=True) if value is not None]
        return reading.pay(episode, [(turn, float(value)) for turn, value in paid])

    reward.__doc__, reward.__name__ = function.__doc__, getattr(function, "__name__", "reward")
    return reward


def _pair(turn: Turn, episode: Episode, conversational: bool) -> tuple[Any, Any]:
    heard: list[dict[str, str]] = []
    for own in episode.turns_of(turn.seat):
        heard += [{"role": role, "content": text} for role, text in own.messages]
        if own is turn:
            break
        heard.append({"role": "assistant", "content": own.text})
    if conversational:
        return heard, [{"role": "assistant", "content": turn.text}]
    return "\n".join(message["content"] for message in heard), turn.text


def _columns(episode: Episode, count: int) -> dict[str, list[Any]]:
    facts: Mapping[str, Any] = episode.facts
    held = {**facts, **(facts.get("columns") or {})}
    return {name: [value] * count for name, value in held.items() if name != "columns"}


def takes(function: Callable[..., Any], option: str) -> bool:
    """Whether a function in TRL's form may be given an option."""
    parameters: Sequence[inspect.Parameter] = list(inspect.signature(function).parameters.values())
    return option in OWN or any(one.name == option or one.kind is one.VAR_KEYWORD for one in parameters)
