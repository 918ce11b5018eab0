"""U: which agents or turns train when, and the factor that earlier ones hand to later ones.

Pure: it plans and multiplies; the trainer refreshes log-probs and steps between the stages of a plan.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from marft.blocks import Update


class Stage(NamedTuple):
    """One part of an update: these agents train, on all their turns or on those of one index; `refresh` log-probs
    first."""

    agents: tuple[str, ...]
    turn: int | None
    refresh: bool


def plan(settings: Update, agents: Sequence[str], turns: int, update: int, seed: int = 0) -> list[Stage]:
    """The stages of update number `update`, in order.

    simultaneous: one stage of all agents. round_robin: one stage of the agent whose turn it is. sequential: a stage per
    agent in an order drawn from (seed, update), log-probs refreshed between them (HAPPO, 2109.11251). reverse_turns: a
    stage per turn index, the last first (SeeUPO, 2602.06554).
    """
    names = tuple(agents)
    if settings.kind == "simultaneous":
        return [Stage(names, None, False)]
    if settings.kind == "round_robin":
        return [Stage((names[update % len(names)],), None, False)]
    if settings.kind == "sequential":
        order = np.random.default_rng([seed, update]).permutation(len(names))
        return [Stage((names[number],), None, place > 0) for place, number in enumerate(order)]
    return [Stage(names, turn, turn < turns - 1) for turn in reversed(range(turns))]


def compound(settings: Update, factor_K: Any, log_ratio_N: Any, unit_N: Any) -> np.ndarray:
    """(K,) the running factor of each unit after one more stage: clamp(M · clamp(exp(mean log-ratio))).

    factor_K: M so far, ones at the start. log_ratio_N: log π_new − log π_old of the stage's tokens; unit_N: the unit
    (the episode) each token belongs to. A unit without tokens in the stage keeps its factor. Both clamps are to [low,
    high], as in SeeUPO's code.
    """
    factor_K, log_ratio_N = np.asarray(factor_K, np.float64), np.asarray(log_ratio_N, np.float64)
    unit_N = np.asarray(unit_N, np.int64)
    count_K = np.bincount(unit_N, minlength=len(factor_K))
    mean_K = np.bincount(unit_N, log_ratio_N, len(factor_K)) / np.maximum(count_K, 1)
    ratio_K = np.exp(np.clip(mean_K, np.log(settings.low), np.log(settings.high)))
    return np.where(count_K > 0, np.clip(factor_K * ratio_K, settings.low, settings.high), factor_K)


def weigh(advantage_U: Any, factor_K: Any, unit_U: Any) -> np.ndarray:
    """(U,) advantages times their unit's factor: what the next stage trains on."""
    return np.asarray(advantage_U, np.float64) * np.asarray(factor_K, np.float64)[np.asarray(unit_U, np.int64)]


def stop_early(settings: Update, approximate_kl: float) -> bool:
    """Whether the passes over an update's rows end: after, never before, the step that measured this KL."""
    return settings.kl_stop is not None and approximate_kl > settings.kl_stop
