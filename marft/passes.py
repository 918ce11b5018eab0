"""Sequences of token ids through the model: who goes with whom, and the hidden states at the places that are scored.

Rows are packed end to end where the model's attention allows it, else laid side by side with padding.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from marft.bank import AdapterBank
from marft.batches import Sequenced, collate, micro_batches
from marft.packing import layout_of


class Passes:
    """Forward passes of at most `token_budget` tokens, padding included, of whatever adapter of the bank is in use."""

    def __init__(self, bank: AdapterBank, token_budget: int) -> None:
        self.bank, self.token_budget = bank, token_budget

    def batches(self, rows: Sequence[Sequenced]) -> list[list[int]]:
        """Row numbers of each pass."""
        return micro_batches(rows, self.token_budget, padded=not self.bank.packs)

    def hidden(self, rows: Sequence[Sequenced]) -> Tensor:
        """(N, width) the hidden states that predict the rows' targets, one row after the other, in one pass."""
        if self.bank.packs:
            return self._packed(rows)
        ids_RL, predictor_N = collate(rows)
        hidden_RLD = self.bank.hidden(torch.from_numpy(ids_RL).to(self.bank.device), use_cache=False)
        return hidden_RLD.flatten(0, 1)[torch.from_numpy(predictor_N).to(self.bank.device)]

    def _packed(self, rows: Sequence[Sequenced]) -> Tensor:
        device = self.bank.device
        lengths = [len(row) for row in rows]
        ids_T = torch.from_numpy(np.concatenate([row.ids for row in rows])).to(device)
        first = np.cumsum([0, *lengths[:-1]])
        predictor_N = np.concatenate([start + row.targets - 1 for start, row in zip(first, rows, strict=True)])
        hidden_1TD = self.bank.hidden(ids_T[None], packed=layout_of(lengths, device))
        return hidden_1TD[0].index_select(0, torch.from_numpy(predictor_N).to(device))
