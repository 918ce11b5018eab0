"""Sequences of token ids through the model: who goes with whom, and the hidden states at the places that are scored.

Rows are packed end to end where the model's attention allows it, what they have in common at the beginning once, else
laid side by side with padding.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from marft.bank import AdapterBank
from marft.batches import Sequenced, collate, micro_batches
from marft.packing import layout_of
from marft.sharing import Piece, passes_of, pieces_of, tokens_of


class Passes:
    """Forward passes of at most `token_budget` tokens, padding included, of whatever adapter of the bank is in use."""

    def __init__(self, bank: AdapterBank, token_budget: int) -> None:
        self.bank, self.token_budget = bank, token_budget

    def batches(self, rows: Sequence[Sequenced], owners: Sequence[int] | None = None) -> list[list[int]]:
        """Row numbers of each pass. owners: which adapter's each row is, in a mixed pass."""
        if self.bank.packs:
            return passes_of(rows, self.token_budget, owners)
        return micro_batches(rows, self.token_budget)

    def tokens(self, rows: Sequence[Sequenced]) -> int:
        """How many tokens of a pass these rows of one adapter are."""
        return tokens_of(rows)

    def hidden(self, *parts: Sequence[Sequenced]) -> Tensor:
        """(N, width) the hidden states that predict the rows' targets, one row after the other, in one pass.

        parts: the rows of each adapter of a mixed pass; else there is one part.
        """
        if self.bank.packs:
            return self._packed(parts)
        (rows,) = parts
        ids_RL, predictor_N = collate(rows)
        hidden_RLD = self.bank.hidden(torch.from_numpy(ids_RL).to(self.bank.device), use_cache=False)
        return hidden_RLD.flatten(0, 1)[torch.from_numpy(predictor_N).to(self.bank.device)]

    def _packed(self, parts: Sequence[Sequence[Sequenced]]) -> Tensor:
        device = self.bank.device
        pieces: list[Piece] = []
        ids, predictors, first = [], [], 0
        for rows in parts:
            own = pieces_of(rows, first)
            ids += [rows[piece.row].ids[piece.known : len(piece.place_L)] for piece in own]
            place = {piece.row: piece.place_L for piece in own}
            predictors += [place[number][row.targets - 1] for number, row in enumerate(rows)]
            first += sum(piece.own for piece in own)
            pieces += own
        ids_T, predictor_N = (torch.from_numpy(np.concatenate(arrays)).to(device) for arrays in (ids, predictors))
        hidden_1TD = self.bank.hidden(ids_T[None], packed=layout_of(pieces, device))
        return hidden_1TD[0].index_select(0, predictor_N)
