"""G: rewards backed up along a stream. Each function gives the return of every decision, (D,).

The kinds of `gae` give the advantage itself, the return minus the critic's value; see `marft.credit.gae`.
"""

from __future__ import annotations

import numpy as np

from marft.blocks import Return
from marft.credit import scan
from marft.credit.gae import gae, gae_agent_chain
from marft.credit.stream import Stream
from marft.credit.table import Decisions
from marft.credit.tree import tree


def to_go(stream: Stream, decisions: Decisions, settings: Return) -> np.ndarray:
    """Σ_{k≥t} γ^(k−t) r_k by the step clock: a step at which nothing is recorded still discounts."""
    return scan.to_go(stream.reward_V, stream.segment_V, stream.clock_V, settings.gamma)[stream.row_D]


def episode(stream: Stream, decisions: Decisions, settings: Return) -> np.ndarray:
    """Σ_k r_k, undiscounted, over the whole stream: the same for all its rows."""
    return np.bincount(stream.segment_V, stream.reward_V)[stream.segment_V][stream.row_D]


def turn(stream: Stream, decisions: Decisions, settings: Return) -> np.ndarray:
    """r_t, the step's reward alone."""
    return stream.reward_V[stream.row_D]


def differential(stream: Stream, decisions: Decisions, settings: Return) -> np.ndarray:
    """Gain over the attempt before, discounted within and across attempts (MAGE's code, github Lu-Yang666/MAGE).

    Columns: `attempt`, whole numbers from 0, and `reflect`, true on turns between attempts, whose rewards do not count
    and which neither earn nor discount. Attempt n is paid R_n − R_{n−1} (R_{−1} = 0) on its last turn; an attempt whose
    last turn is a reflection is paid nothing, as in that code. Backwards, a turn discounts by γ if the next play turn
    is of its own attempt, else by gamma_attempt.
    """
    attempt_D = decisions.numbers("attempt", "return differential").astype(np.int64)
    reflect_D = decisions.numbers("reflect", "return differential") != 0 if "reflect" in decisions.columns else None
    play_D = np.ones(len(attempt_D), bool) if reflect_D is None else ~reflect_D
    segment_D = decisions.key(("episode", "seat")).code
    reward_D = np.where(play_D, stream.reward_V[stream.row_D], 0.0)
    trial_D = np.concatenate([[0], np.cumsum((np.diff(segment_D) != 0) | (np.diff(attempt_D) != 0))])[: len(attempt_D)]
    total_T = np.bincount(trial_D, reward_D)
    last_T = np.flatnonzero(np.concatenate([np.diff(trial_D) != 0, [True]]))[: len(total_T)]
    same_T = np.concatenate([[False], segment_D[last_T[1:]] == segment_D[last_T[:-1]]])[: len(total_T)]
    gain_T = total_T - np.where(same_T, np.concatenate([[0.0], total_T[:-1]])[: len(total_T)], 0.0)
    paid_D = np.zeros(len(attempt_D))
    paid_D[last_T] = np.where(play_D[last_T], gain_T, 0.0)
    row_D = np.arange(len(attempt_D))
    next_D = np.minimum.accumulate(np.where(play_D, row_D, len(row_D))[::-1])[
        ::-1
    ]  # the next play turn, this one if so
    after_D = np.minimum(np.concatenate([next_D[1:], [len(row_D)]])[: len(row_D)], max(len(row_D) - 1, 0))
    within_D = attempt_D[after_D] == attempt_D
    decay_D = np.where(play_D, np.where(within_D, settings.gamma, settings.gamma_attempt), 1.0)
    ends_D = np.concatenate([np.diff(segment_D) != 0, [True]])[: len(row_D)]
    decay_D = np.where(ends_D, 0.0, decay_D)
    return scan.scan(paid_D[::-1], decay_D[::-1])[::-1]


RETURNS = {
    "to_go": to_go,
    "episode": episode,
    "turn": turn,
    "tree": tree,
    "gae": gae,
    "gae_agent_chain": gae_agent_chain,
    "gae_token": gae_agent_chain,
    "differential": differential,
}
"""`gae_token` on a table of turns takes each turn for one token; `marft.credit.token_advantages` goes by token."""

WITH_CRITIC = ("gae", "gae_agent_chain", "gae_token")
