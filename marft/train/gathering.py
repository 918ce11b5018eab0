"""The turn tables of all processes put together: statistics run over the whole batch, wherever it was played. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class Part(NamedTuple):
    """What one process brings: its turn table, the critic's values of its tokens, and each of its episodes' group."""

    table: dict[str, np.ndarray]
    value_N: np.ndarray | None
    groups: list[int]


@dataclass
class Batch:
    """A turn table, the critic's values of its tokens, and where this process's turns and tokens stand in it."""

    table: dict[str, np.ndarray]
    value_N: np.ndarray | None
    turns: slice
    tokens: slice

    @property
    def turn_N(self) -> np.ndarray:
        """(N,) the row of the table whose completion each token belongs to."""
        return np.repeat(np.arange(len(self.table["tokens_U"])), self.table["tokens_U"].astype(np.int64))


def join(parts: Sequence[Part], rank: int) -> Batch:
    """The batch as process `rank` sees it. Rows stand part after part; episodes are numbered by group, as one process
    alone would have played them, since a running baseline meets them in that order."""
    place = {}
    order = sorted(
        (group, number, local) for number, part in enumerate(parts) for local, group in enumerate(part.groups)
    )
    for new, (_, number, local) in enumerate(order):
        place[number, local] = new
    tables = _complete([part.table for part in parts])
    for number, (table, part) in enumerate(zip(tables, parts, strict=True)):
        names = np.array([place[number, local] for local in range(len(part.groups))], dtype=np.int64)
        table["episode_U"] = names[table["episode_U"].astype(np.int64)]
    filled = [table for table in tables if len(table["reward_U"])] or [tables[rank]]
    whole = {name: np.concatenate([table[name] for table in filled]) for name in filled[0]}
    turns = [len(table["reward_U"]) for table in tables]
    tokens = [int(table["tokens_U"].sum()) for table in tables]
    values = [part.value_N for part in parts if part.value_N is not None]
    return Batch(whole, np.concatenate(values) if values else None, _own(turns, rank), _own(tokens, rank))


def _own(sizes: Sequence[int], rank: int) -> slice:
    return slice(sum(sizes[:rank]), sum(sizes[: rank + 1]))


def _complete(tables: Sequence[dict[str, np.ndarray]]) -> list[dict[str, np.ndarray]]:
    """Every process's table with the columns of all: a reward or a mark may occur on one of them alone."""
    kinds = {name: column.dtype.kind for table in tables for name, column in table.items() if len(column)}
    return [
        table
        | {
            name: np.full(len(table["reward_U"]), "" if kind in "US" else 0)
            for name, kind in kinds.items()
            if name not in table
        }
        for table in tables
    ]
