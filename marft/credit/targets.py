"""What a critic is to learn: the return of each decision, or of each token, as the algorithm's own return block has it.

For the kinds of `gae` that is the λ-return A + V; for all others the return itself. Baselines and transforms have no
part in it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np

from marft.blocks import Algorithm
from marft.credit.pipeline import attribute, returns
from marft.credit.presets import algorithm
from marft.credit.returns import WITH_CRITIC
from marft.credit.table import collapse
from marft.credit.tokens import token_returns


def value_targets(
    settings: str | Algorithm | Mapping[str, Any],
    table: Mapping[str, Any],
    value_N: Any = None,
    turn_N: Any = None,
    state: Mapping[str, Any] | None = None,
) -> np.ndarray:
    """(U,) targets of the turns' decisions; (N,) targets of the tokens where the return goes by token.

    table: a turn table with the column `value`, the critic's present estimates. value_N, turn_N: as for
    `token_advantages`, read where the return is `gae_token`.
    """
    blocks = algorithm(settings)
    if blocks.return_.kind == "gae_token":
        value_N = np.asarray(value_N, np.float64)
        return token_returns(blocks, table, np.asarray(turn_N, np.int64), value_N, dict(state or {}))[1] + value_N
    decisions, decision_U = collapse(table)
    decisions, stream = attribute(blocks, decisions, copy.deepcopy(dict(state or {})))
    target_D = returns(blocks, stream, decisions)
    if blocks.return_.kind in WITH_CRITIC:
        target_D = target_D + decisions.numbers("value", "a critic's target")
    return target_D[decision_U]
