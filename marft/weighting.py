"""L: aggregation, as one weight per trained token.

Weights are computed once for an agent's whole batch, all micro-batches and all processes; the batch's loss is then
exactly the sum of its micro-batches' losses, in any split.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from marft.blocks import Aggregate


class Totals(NamedTuple):
    """How many tokens, rows and turns an agent's whole batch trains on. Counts of processes add up."""

    tokens: int
    rows: int
    turns: int


def count_totals(row_N, turn_N) -> Totals:
    """Totals of these tokens. `row_N`, `turn_N`: integer ids of each token's row and turn, unique in the batch."""
    row_N, turn_N = torch.as_tensor(row_N), torch.as_tensor(turn_N)
    return Totals(row_N.numel(), row_N.unique().numel(), turn_N.unique().numel())


def token_weights(
    aggregate: Aggregate, row_N, turn_N, totals: Totals | None = None, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """The weight of each token's loss in the batch's loss, (N,).

    row_N, turn_N: integer ids as for `count_totals`. totals: of all processes, where this one holds only a part (whole
    rows, so whole turns); by default of the tokens given. The weights of a mean sum to 1 over the batch; those of
    `row_sum` and `sum_over` to the mean number of tokens of a row, over 1 or the constant.
    """
    row_N, turn_N = torch.as_tensor(row_N), torch.as_tensor(turn_N)
    totals = totals if totals is not None else count_totals(row_N, turn_N)
    return WEIGHTS[aggregate.kind](aggregate, row_N, turn_N, totals).to(dtype)


# L: aggregation. (settings, row, turn, totals) -> a weight per token.


def _token_mean(settings: Aggregate, row_N, turn_N, totals: Totals):
    return torch.full(row_N.shape, 1.0 / max(totals.tokens, 1), dtype=torch.float64, device=row_N.device)


def _row_mean(settings: Aggregate, row_N, turn_N, totals: Totals):
    return 1.0 / (_lengths(row_N) * max(totals.rows, 1))


def _turn_mean(settings: Aggregate, row_N, turn_N, totals: Totals):
    return 1.0 / (_lengths(turn_N) * max(totals.turns, 1))


def _row_sum(settings: Aggregate, row_N, turn_N, totals: Totals):
    return torch.full(row_N.shape, 1.0 / max(totals.rows, 1), dtype=torch.float64, device=row_N.device)


def _sum_over(settings: Aggregate, row_N, turn_N, totals: Totals):
    return _row_sum(settings, row_N, turn_N, totals) / settings.constant


def _lengths(id_N: torch.Tensor) -> torch.Tensor:
    """How many tokens share each token's id, (N,) float64."""
    _, place_N, length_K = id_N.unique(return_inverse=True, return_counts=True)
    return length_K[place_N].double()


WEIGHTS = {
    "token_mean": _token_mean,
    "row_mean": _row_mean,
    "turn_mean": _turn_mean,
    "row_sum": _row_sum,
    "sum_over": _sum_over,
}
