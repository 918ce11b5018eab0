"""Credit: rewards → advantages, on the turn table, as a composition of pure blocks.

    rewards → composition → prepare → attribution → return → resize → − baseline → alignment → normalise → transforms
    → visitation weight → advantage of each turn

Pure numpy in float64: no torch, no file, no clock, and no randomness but `resize`'s seeded draw. One block a file; each
file ends in the table that maps the block's kinds to functions. A new method is a new row in `presets`, and a new
function only where it has a new idea.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from marft.blocks import Algorithm
from marft.credit.pipeline import Credit, assess
from marft.credit.presets import PRESETS, Preset, algorithm
from marft.credit.tokens import token_advantages

__all__ = ["PRESETS", "Credit", "Preset", "advantages", "algorithm", "assess", "token_advantages"]


def advantages(
    settings: str | Algorithm | Mapping[str, Any], table: Mapping[str, Any], state: dict[str, Any] | None = None
) -> np.ndarray:
    """The advantage of each turn, (U,) float64.

    settings: a preset's name, an `Algorithm`, or a mapping of blocks (see `presets.algorithm`).
    table: column name -> U values (see `table.collapse`). `episode` and `reward` are required.
    state: what earlier batches left behind (see `memory`), a dict of JSON values. It is brought up to date in place;
    None starts from nothing and forgets. `assess` is the same without a side effect.

    Turns that share (episode, seat, step) are one decision and get the same number. Every statistic runs over
    decisions that exist, each once. A row whose `acted` is false (a reward without a turn) gets 0.
    Raises RecipeError for settings or a table that cannot be used, RewardError for rewards that are not finite or so
    large that advantages overflow.
    """
    credit = assess(settings, table, state)
    if state is not None:
        state.clear()
        state.update(credit.state)
    return credit.advantage_U
