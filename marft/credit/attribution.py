"""R: which reward a seat is credited with.

An attribution turns decisions into reward streams. With `own` a stream is one seat's decisions in one episode; with
the team kinds it is the whole episode, one row per step of it, so that a seat's return counts what the others earned
at steps where that seat did not act.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from marft.credit.keys import compact, first_rows
from marft.credit.table import Decisions


class Stream(NamedTuple):
    """Rewards in order of (segment, clock), one row per step, and the row at which each decision stands."""

    reward_V: np.ndarray
    segment_V: np.ndarray
    clock_V: np.ndarray
    row_D: np.ndarray | slice


def own(decisions: Decisions) -> Stream:
    """The seat's own rewards."""
    segment = decisions.key(("episode", "seat"))
    return Stream(decisions.reward_D, segment.code, decisions.clock_D, slice(None))


def team_sum(decisions: Decisions) -> Stream:
    """The sum of all seats' rewards at the step."""
    event = compact(decisions.key(("episode", "step")))
    first_V = first_rows(event)
    reward_V = np.bincount(event.code, decisions.reward_D, event.size)
    return Stream(reward_V, decisions.codes["episode"].code[first_V], decisions.clock_D[first_V], event.code)


def team_mean(decisions: Decisions) -> Stream:
    """The sum divided by the number of seats that the episode has; a seat that is silent at a step earned 0 then."""
    stream = team_sum(decisions)
    pair = compact(decisions.key(("episode", "seat")))
    seats_E = np.bincount(decisions.codes["episode"].code[first_rows(pair)])
    return stream._replace(reward_V=stream.reward_V / seats_E[stream.segment_V])


ATTRIBUTIONS = {"own": own, "team_sum": team_sum, "team_mean": team_mean}
