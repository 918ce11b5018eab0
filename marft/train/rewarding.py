"""Rewards to episodes: every term worked out, checked, weighed, stored; what goes wrong stops the run or is left out.

An episode that a term could not grade is never scored as zero. By `on_error: stop` it ends the run; by `skip` it is
marked failed with its cause, so that nothing is learned from it, it is counted, and it stays on disk. Of a tree all
paths go together, since the values of its nodes are means over all of them.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from marft.config import Recipe
from marft.episode import Episode, learnable
from marft.errors import RewardError
from marft.rewards import REWARDS, load_reward, services_of, takes_all, unit_of
from marft.rewards.grading import Paid, Ungraded


class Term(NamedTuple):
    """One reward term as it is used.

    deadline: seconds that a call may take, in the main thread; None for functions that look to it themselves.
    key: where it stands in the recipe, for messages.
    """

    function: Callable[..., Any]
    weight: float = 1.0
    on_error: Literal["stop", "skip"] = "stop"
    deadline: float | None = None
    key: str = "rewards"

    @property
    def may_fail(self) -> bool:
        """Whether its failures can be told from a run that went on: those are counted."""
        return self.on_error == "skip" or "failed" in inspect.signature(self.function).parameters


def terms_of(recipe: Recipe) -> dict[str, Term]:
    """The recipe's rewards, loaded, under the names of their terms."""
    terms = {}
    for number, (name, reward) in enumerate(zip(recipe.terms, recipe.rewards, strict=True)):
        key = f"rewards[{number}]"
        function = load_reward(reward.use, reward.options, key, process=reward.process, deadline=reward.deadline)
        own = reward.use not in REWARDS and not reward.process  # the others look to their deadlines themselves
        terms[name] = Term(function, reward.weight, reward.on_error, reward.deadline if own else None, key)
    return terms


def score_all(
    episodes: Sequence[Episode], rewards: Mapping[str, tuple[Any, ...]], scorer: Any = None, ask: Any = None
) -> None:
    """Run the reward functions, {name: a Term or (function, weight)}, on all episodes and store each weighted term.

    A function whose first parameter is `episodes` gets all of them at once, and by name the services it asks for, and
    answers with one mapping each. Raises RewardError where a term stops the run, or no episode is left to learn from.
    """
    left = learnable(episodes)
    lost: dict[int, str] = {}
    for name, given in rewards.items():
        term = Term(*given)
        for episode, outcome in zip(left, _outcomes(name, term, left, {"scorer": scorer, "ask": ask}), strict=True):
            try:
                _store(episode, name, outcome, term)
            except RewardError as error:
                if term.on_error == "stop":
                    raise
                episode.failures[name] = str(error)
                lost.setdefault(id(episode), str(error))
    _leave_out(left, lost)


def score(episode: Episode, rewards: Mapping[str, tuple[Any, ...]]) -> None:
    """The same for one episode."""
    score_all([episode], rewards)


def failures(episodes: Sequence[Episode], rewards: Mapping[str, tuple[Any, ...]]) -> dict[str, int]:
    """How many episodes each term failed on that may fail and leave the run going."""
    return {
        name: sum(name in episode.failures for episode in episodes)
        for name, given in rewards.items()
        if Term(*given).may_fail
    }


def _leave_out(episodes: Sequence[Episode], lost: Mapping[int, str]) -> None:
    """Mark as failed what was not graded, with all other paths of its tree."""
    trees = {
        episode.group: lost[id(episode)]
        for episode in reversed(episodes)
        if id(episode) in lost and any("node" in turn.marks for turn in episode.turns)
    }
    for episode in episodes:
        cause = lost.get(id(episode)) or trees.get(episode.group)
        if cause is not None:
            episode.status, episode.cause = "failed", cause
    if lost and not learnable(episodes):
        raise RewardError(
            f"no episode of {len(episodes)} is left to learn from; the first one: {next(iter(lost.values()))}"
        )


def _outcomes(name: str, term: Term, episodes: Sequence[Episode], services: Mapping[str, Any]) -> Iterable[Any]:
    """What the function gives for each episode, or in its place the RewardError that says what was wrong."""
    if not takes_all(term.function):
        return (_tried(name, term, episode.id, term.function, episode) for episode in episodes)
    given = [services[service] for service in services_of(term.function)]
    return _together(name, term, list(episodes), given)


def _together(name: str, term: Term, episodes: list[Episode], given: list[Any]) -> list[Any]:
    """A call for all of them; where it raises, one for each part that can be graded alone, to know which it was."""
    place = episodes[0].id if len(episodes) == 1 else f"{len(episodes)} episodes"
    answers = _tried(name, term, place, lambda: list(term.function(episodes, *given)))
    if not isinstance(answers, RewardError):
        if len(answers) == len(episodes):
            return answers
        answers = RewardError(f"reward {name} answered {len(episodes)} episodes with {len(answers)} results")
    parts: dict[Any, list[int]] = {}
    kind = unit_of(term.function)
    for number, episode in enumerate(episodes):
        parts.setdefault({"episode": number, "group": episode.group, "all": 0}[kind], []).append(number)
    if len(parts) < 2:
        return [answers] * len(episodes)
    found: list[Any] = [None] * len(episodes)
    for numbers in parts.values():
        part = _together(name, term, [episodes[number] for number in numbers], given)
        for number, answer in zip(numbers, part, strict=True):
            found[number] = answer
    return found


def _tried(name: str, term: Term, place: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """What the function gives, or the RewardError that says why it gave nothing."""
    try:
        with _limited(term.deadline):
            return function(*arguments)
    except _LateError:
        late = f"reward {name} had not come back after {term.deadline:g} s on {place}"
        return RewardError(f"{late}; raise {term.key}.deadline, or set {term.key}.process true to have it killed")
    except Exception as error:  # the boundary to a user's reward
        found = RewardError(f"reward {name} raised {type(error).__name__}: {error} on {place}")
        found.__cause__ = error
        return found


class _LateError(BaseException):
    """Raised where a reward is when its deadline passes; no `except Exception` of its own stops it."""


@contextlib.contextmanager
def _limited(seconds: float | None) -> Iterator[None]:
    """Raise _LateError after `seconds`, and again every second. Only the main thread can be reached so."""
    if seconds is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def late(number: int, frame: Any) -> None:
        raise _LateError

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


def _store(episode: Episode, name: str, given: Any, term: Term) -> None:
    """Check and weigh what a term gives an episode. Raises RewardError."""
    if isinstance(given, RewardError):
        raise given
    if isinstance(given, Ungraded):
        more = ", or options.failed: 0 to pay that" if "failed" in inspect.signature(term.function).parameters else ""
        raise RewardError(
            f"reward {name} could not grade {episode.id}: {given.cause}; "
            f"set {term.key}.on_error skip to leave such episodes out{more}"
        )
    if isinstance(given, Paid):
        episode.failures[name] = "; ".join(given.failures)
    steps = len(episode.rewards)
    last = {turn.seat: turn.step for turn in episode.turns}
    paid: dict[str, list[float]] = {}
    seats = _tried(name, term, episode.id, functools.partial(dict, given))
    if isinstance(seats, RewardError):
        raise seats
    for seat, value in seats.items():
        if seat not in episode.seats:
            raise RewardError(f"reward {name} names a seat {seat!r} that {episode.game} does not have")
        try:
            values = _per_step(value, steps, last.get(seat))
        except (TypeError, ValueError) as error:
            raise RewardError(f"reward {name} gave {seat} {error} on {episode.id}") from None
        if not np.isfinite(values).all():
            raise RewardError(f"reward {name} gave {seat} {values} on {episode.id}; rewards must be finite numbers")
        paid[seat] = [term.weight * item for item in values]
    episode.terms[name] = paid


def _per_step(value: object, steps: int, last: int | None) -> list[float]:
    """What a reward gave one seat, as a number per step; a single number stands at the seat's last step.

    A seat that never acted (last is None) is paid at the episode's last step: it still counts in a team's return.
    """
    if isinstance(value, str):
        raise TypeError(f"the text {value!r}, not numbers")
    if isinstance(value, Sequence | np.ndarray):
        if len(value) != steps:
            raise ValueError(f"{len(value)} values for {steps} steps")
        return [float(item) for item in value]
    values, number = [0.0] * steps, float(value)
    if steps:
        values[steps - 1 if last is None else last] = number
    return values
