"""Credit: rewards → advantages, on the turn table, as a composition of pure blocks.

    rewards → attribution → return → − baseline → alignment → normalise → visitation weight → advantage of each turn

Pure numpy in float64: no torch, no file, no clock, no randomness. One block a file; each file ends in the table that
maps the block's kinds to functions. A new method is a new row in `presets`, and a new function only where it has a
new idea.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from marft.blocks import Algorithm
from marft.credit.alignment import ALIGNMENTS
from marft.credit.attribution import ATTRIBUTIONS
from marft.credit.baselines import BASELINES
from marft.credit.presets import PRESETS, Preset, algorithm
from marft.credit.returns import RETURNS
from marft.credit.table import Decisions, collapse
from marft.credit.transforms import NORMALISERS, discount_visits
from marft.errors import RewardError

__all__ = ["PRESETS", "Preset", "advantages", "algorithm"]


def advantages(settings: str | Algorithm | Mapping[str, Any], table: Mapping[str, Any]) -> np.ndarray:
    """The advantage of each turn, (U,) float64.

    settings: a preset's name, an `Algorithm`, or a mapping of blocks (see `presets.algorithm`).
    table: column name -> U values (see `table.collapse`). `episode` and `reward` are required.

    Turns that share (episode, seat, step) are one decision and get the same number. Every statistic runs over
    decisions that exist, each once. A row whose `acted` is false (a reward without a turn) gets 0.
    Raises RecipeError for settings or a table that cannot be used, RewardError for rewards that are not finite or so
    large that advantages overflow.
    """
    blocks = algorithm(settings)
    everything, decision_U = collapse(table)
    with np.errstate(over="ignore", invalid="ignore"):
        return_D = _returns(blocks, everything)
        if everything.acted_D.all():
            advantage_D = _advantages(blocks, return_D, everything)
        else:
            acted_D = everything.acted_D
            advantage_D = np.zeros(len(return_D))
            advantage_D[acted_D] = _advantages(blocks, return_D[acted_D], everything.take(acted_D))
    if not np.isfinite(advantage_D).all():
        largest = np.abs(everything.reward_D).max()
        raise RewardError(f"advantages overflow float64: rewards reach {largest:.3g}; scale them down")
    return advantage_D[decision_U]


def _returns(blocks: Algorithm, decisions: Decisions) -> np.ndarray:
    stream = ATTRIBUTIONS[blocks.attribution.kind](decisions)
    return RETURNS[blocks.return_.kind](stream, blocks.return_.gamma)[stream.row_D]


def _advantages(blocks: Algorithm, return_D: np.ndarray, decisions: Decisions) -> np.ndarray:
    advantage_D = BASELINES[blocks.baseline.kind](return_D, decisions, blocks.baseline.key)
    advantage_D = ALIGNMENTS[blocks.alignment.kind](advantage_D, decisions, blocks.alignment)
    advantage_D = NORMALISERS[blocks.normalise.kind](advantage_D, decisions, blocks.normalise)
    return discount_visits(advantage_D, decisions, blocks.return_.gamma) if blocks.discount_visits else advantage_D
