"""Sequences of token ids to micro-batches: who goes with whom, and how they are laid side by side. Pure data."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from typing import Protocol

import numpy as np


class Sequenced(Protocol):
    """Anything with ids, (L,), and targets, (N,) ascending positions in them that are scored."""

    ids: np.ndarray
    targets: np.ndarray

    def __len__(self) -> int: ...


def micro_batches(rows: Sequence[Sized], token_budget: int) -> list[list[int]]:
    """Row numbers in batches of at most `token_budget` tokens, rows filled up to the longest; alike together.

    A row longer than the budget is a batch of its own: it has to be trained, and the machine says if it cannot.
    """
    order = sorted(range(len(rows)), key=lambda number: (-len(rows[number]), number))
    batches: list[list[int]] = []
    for number in order:
        width = len(rows[batches[-1][0]]) if batches else 0
        if batches and width * (len(batches[-1]) + 1) <= token_budget:
            batches[-1].append(number)
        else:
            batches.append([number])
    return batches


def collate(rows: Sequence[Sequenced]) -> tuple[np.ndarray, np.ndarray]:
    """Right-padded ids (R, L), and for every trained token the flat index of the position that predicts it (N,)."""
    width = max(map(len, rows))
    ids_RL = np.zeros((len(rows), width), dtype=np.int64)
    for number, row in enumerate(rows):
        ids_RL[number, : len(row)] = row.ids
    predictor_N = np.concatenate([number * width + row.targets - 1 for number, row in enumerate(rows)])
    return ids_RL, predictor_N
