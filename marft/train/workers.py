"""The processes of one training run, through accelerate: who I am, sums over all, lists from all.

Adapters are not wrapped for distribution: each process holds all of them, sums their gradients explicitly and makes the
same optimizer step, so weights stay equal without ever being sent. From ZeRO stage 2 on each makes the step for its
piece of the weights, and pieces are sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from marft.train.zero import Zero, zero_of


class Workers:
    """A thin face of accelerate's Accelerator."""

    def __init__(self, accelerator: Accelerator | None = None) -> None:
        self.accelerator = accelerator
        self.zero = zero_of(accelerator) if accelerator is not None else Zero()

    @property
    def rank(self) -> int:
        return self.accelerator.process_index if self.accelerator is not None else 0

    @property
    def size(self) -> int:
        return self.accelerator.num_processes if self.accelerator is not None else 1

    @property
    def main(self) -> bool:
        return self.rank == 0

    def mine(self, items: Sequence[Any], keys: Sequence[int]) -> list[Any]:
        """This process's share: items whose key (a group's number) falls to its rank."""
        return [item for item, key in zip(items, keys, strict=True) if key % self.size == self.rank]

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, in place where there are several."""
        return self.accelerator.reduce(tensor, "sum") if self.size > 1 else tensor

    @property
    def pieces(self) -> bool:
        """Whether each process keeps optimizer states for its piece of an agent's weights only."""
        return self.zero.stage >= 2

    def piece(self, flat: Tensor) -> Tensor:
        """This process's piece of a vector; the last one is filled up with zeros."""
        size = -(-len(flat) // self.size)
        mine = flat[self.rank * size : (self.rank + 1) * size]
        return torch.nn.functional.pad(mine, (0, size - len(mine)))

    def assemble(self, piece: Tensor) -> Tensor:
        """All pieces, one after the other."""
        found = [torch.empty_like(piece) for _ in range(self.size)]
        dist.all_gather(found, piece.contiguous())
        return torch.cat(found)

    def reduced(self, flat: Tensor) -> Tensor:
        """The sum of all processes' vectors; this process's piece of it, where there are pieces."""
        if not self.pieces:
            return self.sum(flat)
        size = -(-len(flat) // self.size)
        parts = torch.nn.functional.pad(flat, (0, size * self.size - len(flat))).chunk(self.size)
        mine = torch.empty_like(parts[0])
        dist.reduce_scatter(mine, list(parts))
        return mine

    def norm(self, reduced: Tensor) -> float:
        """The length of the vector of which `reduced` is what this process has."""
        return float(self.sum(reduced.square().sum()).sqrt() if self.pieces else reduced.norm())

    def most(self, number: int) -> int:
        """The largest of all processes' numbers."""
        return max(self.gather([number]))

    def gather(self, items: list[Any]) -> list[Any]:
        """All processes' lists joined in rank order, on every process."""
        return gather_object(items) if self.size > 1 else items

    def wait(self) -> None:
        if self.size > 1:
            self.accelerator.wait_for_everyone()

    def close(self) -> None:
        """All have come to the end: trackers are finished, and nobody hears of the others any more."""
        self.wait()
        if self.accelerator is not None:
            self.accelerator.end_training()
