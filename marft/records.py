"""What the update thought of single tokens, of a few episodes an update: kept for people to look at.

A turn is recorded when the update first comes to it, with the advantages it is trained by and the trainer's log-probs;
where an update is one optimizer step, nothing has moved by then. A turn that is not there was not trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from marft.train.rows import Row


@dataclass(frozen=True)
class TokenRecord:
    """One turn: of which episode and seat, its number among the seat's turns.

    advantage: (N,) of its completion ids. logprobs: (N,) of the same under the trainer's policy, to be compared with
    those of the engine that sampled.
    """

    episode: str
    seat: str
    turn: int
    advantage: np.ndarray
    logprobs: np.ndarray


class TokenRecords:
    """Those of one update; `take` empties it for the next."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str, int], TokenRecord] = {}

    def see(self, rows: Sequence[Row], logp_N: Tensor) -> None:
        """Rows in a pass, with their targets' log-probs one row after the other."""
        pieces = logp_N.detach().split([len(row.targets) for row in rows])
        for row, piece in zip(rows, pieces, strict=True):
            if row.label is None or row.foreign:
                continue
            logprobs = piece.double().cpu().numpy()
            for turn in np.unique(row.place).tolist():
                here = row.place == turn
                record = TokenRecord(*row.label, turn, row.advantage[here], logprobs[here])
                self._found.setdefault((*row.label, turn), record)

    def take(self) -> list[TokenRecord]:
        found, self._found = self._found, {}
        return list(found.values())


def recorded(count: int, total: int, wanted: int) -> range:
    """Which of `count` episodes are recorded, so that about `wanted` of `total` are; evenly spread."""
    return range(0, count, max(1, -(-total // wanted))) if wanted else range(0)
