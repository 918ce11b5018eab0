"""Rewards that look at the team's other rounds: margin, quality, debate scores, influence on the next round.

An event is an (episode, step); the events of an episode follow each other by the step clock, and the turn "before" or
"after" is the one at the neighbouring recorded event. Where a quantity does not exist (no event before, nobody else
at the next one) the reward stands as it is.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from marft.credit import scan
from marft.credit.keys import compact, first_rows
from marft.credit.table import Decisions


class _Events(NamedTuple):
    event_D: np.ndarray
    episode_V: np.ndarray
    clock_V: np.ndarray
    mean_V: np.ndarray


def _events(decisions: Decisions) -> _Events:
    """Events in order, with the mean reward of the seats that stand on each."""
    event = compact(decisions.event())
    first_V = first_rows(event)
    mean_V = np.bincount(event.code, decisions.reward_D, event.size) / np.maximum(
        np.bincount(event.code, minlength=event.size), 1
    )
    return _Events(event.code, decisions.codes["episode"].code[first_V], decisions.clock_D[first_V], mean_V)


def _before(events: _Events) -> tuple[np.ndarray, np.ndarray]:
    """(D,) the mean reward of the event before, and whether there is one."""
    has_V = np.zeros(len(events.mean_V), bool)
    has_V[1:] = events.episode_V[1:] == events.episode_V[:-1]
    before_V = np.concatenate([np.zeros(min(1, len(has_V))), events.mean_V[:-1]])
    return before_V[events.event_D], has_V[events.event_D]


def margin_reward(decisions: Decisions, alpha: float) -> np.ndarray:
    """(D,) r + α(r − Q)."""
    quality_D, has_D = _before(_events(decisions))
    reward_D = decisions.reward_D
    return np.where(has_D, reward_D + alpha * (reward_D - quality_D), reward_D)


def quality_reward(decisions: Decisions, alpha: float) -> np.ndarray:
    """(D,) r + α(Q·r − (1 − Q)(1 − r))."""
    quality_D, has_D = _before(_events(decisions))
    reward_D = decisions.reward_D
    agreement_D = quality_D * reward_D - (1 - quality_D) * (1 - reward_D)
    return np.where(has_D, reward_D + alpha * agreement_D, reward_D)


def debate_scores(decisions: Decisions, gamma: float, shared: bool) -> np.ndarray:
    """(D,) the discounted mean score from a turn on, normalised by its weights; only recorded rounds count."""
    events = _events(decisions)
    if not shared:
        segment_D = decisions.key(("episode", "seat")).code
        ones_D = np.ones(len(segment_D))
        weights_D = scan.to_go(ones_D, segment_D, decisions.clock_D, gamma)
        return scan.to_go(decisions.reward_D, segment_D, decisions.clock_D, gamma) / weights_D
    place = (events.episode_V, events.clock_V, gamma)
    now_V = np.zeros(len(events.mean_V))
    now_V[:-1] = _later(scan.to_go(events.mean_V, *place), events, gamma)
    weights_V = scan.to_go(np.ones(len(events.mean_V)), *place)
    return (decisions.reward_D + now_V[events.event_D]) / weights_V[events.event_D]


def _later(total_V: np.ndarray, events: _Events, gamma: float) -> np.ndarray:
    """(V − 1,) what comes after each event but the last, discounted to it."""
    decay_V = scan.decay(events.episode_V, events.clock_V, gamma)
    return decay_V[1:] * total_V[1:]


def influence_reward(decisions: Decisions, alpha: float) -> np.ndarray:
    """(D,) r + α·sign of the mean change of the other seats' rewards from this round to the next."""
    events = _events(decisions)
    event_D, reward_D = events.event_D, decisions.reward_D
    segment_D = decisions.key(("episode", "seat")).code
    change_D, has_D = np.zeros(len(reward_D)), np.zeros(len(reward_D), bool)
    has_D[:-1] = (segment_D[1:] == segment_D[:-1]) & (event_D[1:] == event_D[:-1] + 1)
    change_D[:-1] = np.where(has_D[:-1], reward_D[1:] - reward_D[:-1], 0.0)
    size = len(events.mean_V)
    others_D = np.bincount(event_D, change_D, size)[event_D] - change_D
    # Sums of floats leave crumbs where changes cancel; their sign would be a reward of its own.
    crumbs_D = 1e-12 * np.bincount(event_D, np.abs(change_D), size)[event_D]
    return reward_D + alpha * np.where(np.abs(others_D) <= crumbs_D, 0.0, np.sign(others_D))
