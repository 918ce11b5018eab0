"""The composition of the blocks: a turn table and settings in, advantages, copies and the new state out."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from marft.blocks import Algorithm
from marft.credit import memory
from marft.credit.alignment import ALIGNMENTS
from marft.credit.attribution import ATTRIBUTIONS
from marft.credit.baselines import BASELINES
from marft.credit.cross import completions, joint_return
from marft.credit.keys import compact
from marft.credit.presets import algorithm
from marft.credit.resize import copies, units
from marft.credit.returns import RETURNS, WITH_CRITIC
from marft.credit.sources import PREPARES, compose
from marft.credit.stream import Stream
from marft.credit.table import Decisions, collapse
from marft.credit.transforms import NORMALISERS, TRANSFORMS, discount_visits, spread_groups
from marft.credit.tree import shares
from marft.errors import RewardError


class Credit(NamedTuple):
    """advantage_U: of each turn. copies_U: how often the turn is to be trained on: 1, but where `resize` or `filter`
    drop (0) or duplicate. state: what the next batch needs to know, JSON values. share_U: the turn's weight among its
    copies on the paths of a tree (see `tree.shares`)."""

    advantage_U: np.ndarray
    copies_U: np.ndarray
    state: dict[str, Any]
    share_U: np.ndarray


def assess(
    settings: str | Algorithm | Mapping[str, Any], table: Mapping[str, Any], state: Mapping[str, Any] | None = None
) -> Credit:
    """Everything that credit says about a batch; see `marft.credit.advantages`. `state` is not changed."""
    blocks = algorithm(settings)
    new_state = copy.deepcopy(dict(state or {}))
    everything, decision_U = collapse(table)
    with np.errstate(over="ignore", invalid="ignore"):
        everything, stream = attribute(blocks, everything, new_state)
        return_D = returns(blocks, stream, everything)
        share_D = shares(everything)
        everything = replace(everything, count_D=_counts(blocks, everything, stream, share_D, new_state))
        acted_D = everything.acted_D
        advantage_D, copies_D = np.zeros(len(return_D)), np.ones(len(return_D))
        whole = bool(acted_D.all())
        mine = everything if whole else everything.take(acted_D)
        found, kept = evaluate(blocks, return_D if whole else return_D[acted_D], mine, new_state)
        advantage_D[acted_D], copies_D[acted_D] = found, kept
    check_finite(advantage_D, everything.reward_D)
    return Credit(advantage_D[decision_U], copies_D[decision_U], new_state, share_D[decision_U])


def attribute(blocks: Algorithm, decisions: Decisions, state: dict) -> tuple[Decisions, Stream]:
    """Rewards composed, prepared and attributed; the decisions then hold the composed rewards."""
    decisions = compose(decisions, blocks.attribution, blocks.kl, float(state.get("progress", 0.0)))
    decisions = PREPARES[blocks.prepare.kind](decisions, blocks.prepare)
    return decisions, ATTRIBUTIONS[blocks.attribution.kind](decisions, blocks.attribution)


def returns(blocks: Algorithm, stream: Stream, decisions: Decisions) -> np.ndarray:
    """(D,) the return of each decision."""
    return_D = RETURNS[blocks.return_.kind](stream, decisions, blocks.return_)
    return joint_return(return_D, decisions) if blocks.attribution.kind == "joint" else return_D


def evaluate(
    blocks: Algorithm, return_D: np.ndarray, decisions: Decisions, state: dict
) -> tuple[np.ndarray, np.ndarray]:
    """From returns of decisions that acted to their advantages and copies."""
    _remember(blocks, return_D, decisions, state)
    copies_D = np.where(decisions.count_D >= 1, decisions.count_D, np.ceil(decisions.count_D))
    advantage_D = return_D
    if blocks.return_.kind not in WITH_CRITIC:
        advantage_D = BASELINES[blocks.baseline.kind](return_D, decisions, blocks.baseline, state)
    advantage_D = ALIGNMENTS[blocks.alignment.kind](advantage_D, decisions, blocks.alignment)
    advantage_D = NORMALISERS[blocks.normalise.kind](advantage_D, decisions, blocks.normalise, return_D)
    for transform in blocks.transforms:
        advantage_D = TRANSFORMS[transform.kind](advantage_D, decisions, transform, state)
        if transform.kind == "filter":
            copies_D = np.where(spread_groups(return_D, decisions, transform), copies_D, 0.0)
    if blocks.discount_visits:
        advantage_D = discount_visits(advantage_D, decisions, blocks.return_.gamma)
    return np.where(copies_D > 0, advantage_D, 0.0), copies_D


def check_finite(advantage_D: np.ndarray, reward_D: np.ndarray) -> None:
    """RewardError where an advantage left the range of float64."""
    if not np.isfinite(advantage_D).all():
        largest = np.abs(reward_D).max()
        raise RewardError(f"advantages overflow float64: rewards reach {largest:.3g}; scale them down")


def _remember(blocks: Algorithm, return_D: np.ndarray, decisions: Decisions, state: dict) -> None:
    wanted = blocks.baseline.kernel == "capability" and blocks.baseline.kind == "mean"
    if wanted or any(transform.kind == "capability" for transform in blocks.transforms):
        memory.note_capability(state, return_D, decisions, blocks.baseline.window)


def _counts(
    blocks: Algorithm, decisions: Decisions, stream: Stream, share_D: np.ndarray, state: Mapping[str, Any]
) -> np.ndarray:
    """How often each decision counts: its copies, and its share where it stands in several episodes."""
    segment_D = None if stream.team else stream.segment_V[stream.row_D]
    count_D = copies(decisions, blocks.resize, units(decisions, segment_D), float(state.get("progress", 0.0))) * share_D
    if blocks.attribution.kind == "joint":
        same = compact(completions(decisions, "attribution joint"))
        count_D = count_D / np.bincount(same.code, share_D)[same.code]
    return count_D
