"""A user's reward in processes of its own, `process: true`: one that never comes back is killed at its deadline."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from marft.rewards.grading import Ungraded
from marft.rewards.workers import workers_of

if TYPE_CHECKING:
    from marft.episode import Episode


def apart(use: str, options: Mapping[str, Any], deadline: float) -> Callable[[Sequence[Episode]], list[Any]]:
    """The reward at `use` (path.py:function) with its options, each episode in a worker, `deadline` seconds at most."""
    settings = {"use": use, "options": dict(options), "path": [part or os.getcwd() for part in sys.path]}

    def reward(episodes: Sequence[Episode]) -> list[Any]:
        workers = workers_of("marft.rewards.apart:grader", settings, deadline=deadline, memory=None, own=True)
        verdicts = workers.run([episode.to_dict() for episode in episodes])
        return [Ungraded(one.cause) if one.cause is not None else one.value for one in verdicts]

    reward.unit = "episode"
    return reward


def grader(use: str, options: Mapping[str, Any], path: Sequence[str]) -> Callable[[Mapping[str, Any]], Any]:
    """In a worker: an episode as plain data -> what the reward pays, as JSON values."""
    sys.path[:] = path
    from marft.episode import Episode
    from marft.rewards import load_reward

    function = load_reward(use, options)

    def grade(data: Mapping[str, Any]) -> Any:
        return {seat: _plain(value) for seat, value in dict(function(Episode.from_dict(dict(data)))).items()}

    return grade


def _plain(value: Any) -> Any:
    """A number, or numbers, out of whatever array they come in."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value
