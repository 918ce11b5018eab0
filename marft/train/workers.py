"""The processes of one training run, through accelerate: who I am, sums over all, lists from all.

Adapters are not wrapped for distribution: each process holds all of them, sums their gradients explicitly and makes the
same optimizer step, so weights stay equal without ever being sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object


class Workers:
    """A thin face of accelerate's Accelerator."""

    def __init__(self, accelerator: Accelerator | None = None) -> None:
        self.accelerator = accelerator

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

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum over all processes, in place where there are several."""
        return self.accelerator.reduce(tensor, "sum") if self.size > 1 else tensor

    def gather(self, items: list[Any]) -> list[Any]:
        """All processes' lists joined in rank order, on every process."""
        return gather_object(items) if self.size > 1 else items

    def wait(self) -> None:
        if self.size > 1:
            self.accelerator.wait_for_everyone()
