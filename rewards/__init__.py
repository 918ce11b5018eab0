"""Reward functions: episode -> what each seat is credited with.

A reward is a function `(episode, **options) -> {seat: number}` (paid at the seat's last step) or
`{seat: [one number per step]}`. It reads the finished episode and nothing else. The recipe weighs and sums the terms;
each is stored with the episode under its own name.

A reward that has to ask how likely a text is takes all of an update's episodes at once, and the scoring service:
`(episodes, scorer, **options) -> [one such mapping per episode]`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from marft.errors import RecipeError
from marft.lookup import load_object, nearest
from marft.rewards.format import invalid_answer
from marft.rewards.information_gain import information_gain
from marft.rewards.payoff import payoff

if TYPE_CHECKING:
    from marft.episode import Episode

RewardFunction = Callable[["Episode"], Mapping[str, float | Sequence[float]]]

REWARDS: dict[str, Callable[..., Any]] = {
    "payoff": payoff,
    "invalid_answer": invalid_answer,
    "information_gain": information_gain,
}


def takes_all(function: Callable[..., Any]) -> bool:
    """Whether a reward takes all episodes at once, and the scoring service."""
    return next(iter(inspect.signature(function).parameters), None) == "episodes"


def load_reward(name: str, options: Mapping[str, Any] | None = None, where: str = "rewards") -> RewardFunction:
    """The reward called `name` in the table, or the user's own at path.py:function, with its options bound."""
    if name in REWARDS:
        function = REWARDS[name]
    elif ":" in name:
        function = load_object(name, where)
    else:
        raise RecipeError(f"{where}.use: no reward {name!r}{nearest(name, REWARDS)}")
    if not callable(function):
        raise RecipeError(f"{where}.use: {name} is not a function but {type(function).__name__}")
    options = dict(options or {})
    parameters = inspect.signature(function).parameters
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        for key in options:
            if key not in parameters:
                raise RecipeError(
                    f"{where}.options.{key}: {name} takes no such option{nearest(key, list(parameters)[1:])}"
                )
    return functools.partial(function, **options) if options else function
