"""Reward functions: episode -> what each seat is credited with.

A reward is a function `(episode, **options) -> {seat: number}` (paid at the seat's last step) or
`{seat: [one number per step]}`. It reads the finished episode and nothing else. The recipe weighs and sums the terms;
each is stored with the episode under its own name. A function in TRL's form, `(prompts, completions, **columns)`, is
taken as it is.

A reward whose first parameter is `episodes` takes all of an update's episodes at once and answers with one such mapping
per episode, or `Ungraded(cause)` in its place. After it may stand the services it needs, by name: `scorer`, how likely
a text is, and `ask`, what a remote model says. Its attribute `unit` is "episode" or "group" where it can be called with
a single one as well, and would pay the same.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ConfigDict, ValidationError, create_model

from marft.errors import RecipeError
from marft.lookup import explain, load_object, nearest
from marft.rewards import grading
from marft.rewards.apart import apart
from marft.rewards.cooperative_code import cooperative_code
from marft.rewards.exact_match import exact_match
from marft.rewards.format import format_marks, invalid_answer, length
from marft.rewards.information_gain import information_gain
from marft.rewards.judge import judge
from marft.rewards.majority import consensus, majority
from marft.rewards.math_verify import math_verify
from marft.rewards.needs import missing
from marft.rewards.numeric_match import numeric_match
from marft.rewards.payoff import payoff
from marft.rewards.peer_score import peer_score
from marft.rewards.reasoning_gym import reasoning_gym
from marft.rewards.similarity import similarity
from marft.rewards.trl_form import from_trl, is_trl, takes
from marft.rewards.unit_tests import unit_tests
from marft.rewards.writing import writing

if TYPE_CHECKING:
    from marft.episode import Episode

RewardFunction = Callable[["Episode"], Mapping[str, float | Sequence[float]]]

REWARDS: dict[str, Callable[..., Any]] = {
    "payoff": payoff,
    "invalid_answer": invalid_answer,
    "exact_match": exact_match,
    "numeric_match": numeric_match,
    "math_verify": math_verify,
    "reasoning_gym": reasoning_gym,
    "unit_tests": unit_tests,
    "cooperative_code": cooperative_code,
    "writing": writing,
    "similarity": similarity,
    "format": format_marks,
    "length": length,
    "majority": majority,
    "consensus": consensus,
    "judge": judge,
    "peer_score": peer_score,
    "information_gain": information_gain,
}
SERVICES = ("scorer", "ask")


def takes_all(function: Callable[..., Any]) -> bool:
    """Whether a reward takes all episodes at once."""
    return next(iter(inspect.signature(function).parameters), None) == "episodes"


def services_of(function: Callable[..., Any]) -> list[str]:
    """The services that a reward takes after the episodes, in their order."""
    return [name for name in list(inspect.signature(function).parameters)[1:] if name in SERVICES]


def unit_of(function: Callable[..., Any]) -> Literal["episode", "group", "all"]:
    """What a reward must see whole to pay an episode: the episode, its group, or all episodes of the update."""
    inner = function.func if isinstance(function, functools.partial) else function
    return getattr(inner, "unit", "all") if takes_all(function) else "episode"


def load_reward(
    name: str,
    options: Mapping[str, Any] | None = None,
    where: str = "rewards",
    *,
    process: bool = False,
    deadline: float = 600.0,
) -> Callable[..., Any]:
    """The reward called `name` in the table, or the user's own at path.py:function, with its options bound.

    process: the user's own is called in a process of its own, `deadline` seconds for an episode at most.
    """
    if name in REWARDS:
        function = REWARDS[name]
        if package := missing(function):
            raise RecipeError(f"{where}.use: {name} needs {package}; install marft[reasoning]")
    elif ":" in name:
        function = load_object(name, where)
    else:
        raise RecipeError(f"{where}.use: no reward {name!r}{nearest(name, REWARDS)}")
    if not callable(function):
        raise RecipeError(f"{where}.use: {name} is not a function but {type(function).__name__}")
    options = dict(options or {})
    if name in REWARDS:
        _check_types(function, options, f"{where}.options.")
    known = list(inspect.signature(function).parameters.values())
    free = [one.name for one in known[1:] if one.name not in SERVICES]
    for key in options:
        fits = takes(function, key) if is_trl(function) else key in free or any(p.kind is p.VAR_KEYWORD for p in known)
        if not fits:
            raise RecipeError(f"{where}.options.{key}: {name} takes no such option{nearest(key, free)}")
    if process:
        if name in REWARDS or takes_all(function):
            raise RecipeError(
                f"{where}.process: it is for your own functions of one episode, not for {name}; set false"
            )
        return apart(name, options, deadline)
    function = from_trl(function) if is_trl(function) else function
    return functools.partial(function, **options) if options else function


def _check_types(function: Callable[..., Any], options: Mapping[str, Any], prefix: str) -> None:
    """A built-in reward's options against its annotations: a wrong one is told before anything is played."""
    names = {**vars(grading), **getattr(inspect.unwrap(function), "__globals__", {})}
    fields = {
        one.name: (eval(one.annotation, names) if isinstance(one.annotation, str) else one.annotation, one.default)
        for one in list(inspect.signature(function).parameters.values())[1:]
        if one.name not in SERVICES
    }
    model = create_model("Options", __config__=ConfigDict(extra="forbid", arbitrary_types_allowed=True), **fields)
    try:
        model(**options)
    except ValidationError as error:
        raise RecipeError(explain(error, model, prefix)) from None
