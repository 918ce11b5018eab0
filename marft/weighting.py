"""L: aggregation, as one weight per trained token.

Weights are computed once for an agent's whole batch, all micro-batches and all processes; the batch's loss is then
exactly the sum of its micro-batches' losses, in any split.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from marft.blocks import Aggregate


class Totals(NamedTuple):
    """How many tokens, rows and turns an agent's whole batch trains on, copies counted. Those of processes add up."""

    tokens: float
    rows: float
    turns: float


def count_totals(row_N, turn_N, copies_N=None) -> Totals:
    """Totals of these tokens. `row_N`, `turn_N`: integer ids of each token's row and turn, unique in the batch.

    copies_N: how often each token counts, once by default. A row (or turn) counts as often as its tokens at most do.
    """
    row_N, turn_N = torch.as_tensor(row_N), torch.as_tensor(turn_N)
    if copies_N is None:
        return Totals(row_N.numel(), row_N.unique().numel(), turn_N.unique().numel())
    copies_N = torch.as_tensor(copies_N, dtype=torch.float64)
    return Totals(float(copies_N.sum()), float(_most(row_N, copies_N)[1]), float(_most(turn_N, copies_N)[1]))


def divisor(aggregate: Aggregate, totals: Totals) -> float:
    """What the batch's totals divide its loss by; weights under totals of 1 are those before that division."""
    return max(getattr(totals, DIVIDES[aggregate.kind]), 1.0)


def token_weights(
    aggregate: Aggregate,
    row_N,
    turn_N,
    totals: Totals | None = None,
    dtype: torch.dtype = torch.float32,
    copies_N=None,
) -> torch.Tensor:
    """The weight of each token's loss in the batch's loss, (N,).

    row_N, turn_N, copies_N: as for `count_totals`. totals: of all processes, where this one holds only a part (whole
    rows, so whole turns); by default of the tokens given. The weights of a mean sum to 1 over the batch; those of
    `row_sum` and `sum_over` to the mean number of tokens of a row, over 1 or the constant.
    """
    row_N, turn_N = torch.as_tensor(row_N), torch.as_tensor(turn_N)
    totals = totals if totals is not None else count_totals(row_N, turn_N, copies_N)
    copies_N = torch.ones(row_N.shape) if copies_N is None else torch.as_tensor(copies_N)
    return WEIGHTS[aggregate.kind](aggregate, row_N, turn_N, totals, copies_N.double().to(row_N.device)).to(dtype)


# L: aggregation. (settings, row, turn, totals, copies) -> a weight per token.


def _token_mean(settings: Aggregate, row_N, turn_N, totals: Totals, copies_N):
    return copies_N / max(totals.tokens, 1)


def _row_mean(settings: Aggregate, row_N, turn_N, totals: Totals, copies_N):
    return _share(row_N, copies_N) / max(totals.rows, 1)


def _turn_mean(settings: Aggregate, row_N, turn_N, totals: Totals, copies_N):
    return _share(turn_N, copies_N) / max(totals.turns, 1)


def _row_sum(settings: Aggregate, row_N, turn_N, totals: Totals, copies_N):
    return copies_N / max(totals.rows, 1)


def _sum_over(settings: Aggregate, row_N, turn_N, totals: Totals, copies_N):
    return _row_sum(settings, row_N, turn_N, totals, copies_N) / settings.constant


def _share(id_N: torch.Tensor, copies_N: torch.Tensor) -> torch.Tensor:
    """A token's share of its row or turn, times how often that counts, (N,) float64."""
    most_N, _ = _most(id_N, copies_N)
    _, place_N = id_N.unique(return_inverse=True)
    sum_K = torch.zeros(int(place_N.max()) + 1 if len(place_N) else 0, dtype=torch.float64, device=id_N.device)
    sum_N = sum_K.index_add(0, place_N, copies_N)[place_N]
    return copies_N * most_N / torch.where(sum_N > 0, sum_N, torch.ones_like(sum_N))  # what counts no times weighs 0


def _most(id_N: torch.Tensor, copies_N: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """How often each token's row or turn counts, (N,), and the sum of that over rows or turns."""
    _, place_N = id_N.unique(return_inverse=True)
    most_K = torch.zeros(int(place_N.max()) + 1 if len(place_N) else 0, dtype=torch.float64, device=id_N.device)
    most_K = most_K.scatter_reduce(0, place_N, copies_N, "amax")
    return most_K[place_N], most_K.sum()


WEIGHTS = {
    "token_mean": _token_mean,
    "row_mean": _row_mean,
    "turn_mean": _turn_mean,
    "row_sum": _row_sum,
    "sum_over": _sum_over,
}

DIVIDES = {"token_mean": "tokens", "row_mean": "rows", "turn_mean": "turns", "row_sum": "rows", "sum_over": "rows"}
"""Which of the totals stands under the loss."""
