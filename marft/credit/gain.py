"""R: the information-gain reward of a turn (IGPO, 2510.14967), out of log-probs that a scoring service gives."""

from __future__ import annotations

from typing import Any

import numpy as np

from marft.credit.columns import read_column, read_numbers
from marft.credit.table import collapse


def answer_probability(logp_N: Any, answer_N: Any) -> np.ndarray:
    """(A,) exp of the mean log-prob of each answer's tokens. `answer_N`: which answer, 0..A−1, a token belongs to."""
    logp_N, answer_N = np.asarray(logp_N, np.float64), np.asarray(answer_N)
    return np.exp(np.bincount(answer_N, logp_N) / np.bincount(answer_N))


def information_gain(table: Any, before_U: Any, outcome_U: Any) -> np.ndarray:
    """(U,) rewards by turn: P_t − P_{t−1} of the true answer, and the outcome (F1) at the seat's last turn.

    table: a turn table, of which episode, seat and step are read; its column `answer_logp` is the mean log-prob of the
    true answer after the turn. before_U: the same before the seat's first turn, read there. outcome_U: read at the last
    turn, where it stands in the gain's place. Turn by turn and never by token position, which differs between rollouts.
    """
    decisions, decision_U = collapse(table)
    segment_D = decisions.key(("episode", "seat")).code
    first_U = np.empty(len(segment_D), np.int64)
    first_U[decision_U[::-1]] = np.arange(len(decision_U))[::-1]
    after = read_column(table, "answer_logp", len(decision_U))
    after_D = np.exp(read_numbers(after, "answer_logp"))[first_U]
    before_D = np.exp(np.asarray(before_U, np.float64))[first_U]
    starts_D = np.diff(segment_D, prepend=-1) != 0
    previous_D = np.where(starts_D, before_D, np.concatenate([[0.0], after_D[:-1]])[: len(after_D)])
    ends_D = np.append(np.diff(segment_D) != 0, True)[: len(after_D)]
    outcome_D = np.asarray(outcome_U, np.float64)[first_U]
    return np.where(ends_D, outcome_D, after_D - previous_D)[decision_U]
