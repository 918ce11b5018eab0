"""Keys and values kept from turn to turn: one slot per conversation, ragged lengths, no padding between turns.

A slot's tokens lie at positions 0, 1, 2, … of its row. A forward pass writes its new keys and values behind them and
reads whole rows back; what lies past a row's own length is masked, so junk written by right-padding is never seen and
is overwritten by the next real tokens.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache

_BLOCK = 64


class SlotCache(Cache):
    """A transformers cache whose rows are slots. Call `aim` before each forward pass.

    Slot rows that happen to be neighbours are read as a view; others are gathered.
    """

    def __init__(self) -> None:
        super().__init__(layers=[])
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []
        self.slots = 0
        self.capacity = 0

    def aim(self, slots_B: Tensor, positions_BL: Tensor, length: int, most_slots: int) -> None:
        """Say which slots the next pass works on, where its tokens go, and how many positions it may look at."""
        self._slots, self._positions = slots_B[:, None], positions_BL
        self._length = length
        first, count = int(slots_B[0]), len(slots_B)
        neighbours = int(slots_B[-1]) - first == count - 1 and bool((slots_B.diff() == 1).all())
        self._rows: slice | Tensor = slice(first, first + count) if neighbours else slots_B
        self.slots = max(self.slots, most_slots)
        self.capacity = max(self.capacity, -(-max(length, int(positions_BL.max()) + 1) // _BLOCK) * _BLOCK)

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any) -> Any:
        """Store (rows, heads, positions, width) of a layer and return all that the rows may attend to."""
        return self._store(self.keys, key_states, layer_idx), self._store(self.values, value_states, layer_idx)

    def _store(self, store: list[Tensor], states: Tensor, layer: int) -> Tensor:
        _, heads, _, width = states.shape
        if layer == len(store):
            store.append(states.new_zeros(self.slots, heads, self.capacity, width))
        held = self._grown(store, layer)
        held[self._slots, :, self._positions] = states.transpose(1, 2)
        return held[self._rows, :, : self._length]

    def _grown(self, store: list[Tensor], layer: int) -> Tensor:
        """A layer's tensor, made large enough for all slots and positions."""
        held = store[layer]
        slots, heads, capacity, width = held.shape
        if slots < self.slots or capacity < self.capacity:
            grown = held.new_zeros(self.slots, heads, self.capacity, width)
            grown[:slots, :, :capacity] = held
            store[layer] = held = grown
        return held

    def copy(self, source: int, targets_B: Tensor, length: int, most_slots: int) -> None:
        """Give other slots the first `length` positions of one."""
        self.slots = max(self.slots, most_slots)
        for store in (self.keys, self.values):
            for layer in range(len(store)):
                held = self._grown(store, layer)
                held[targets_B, :, :length] = held[source, :, :length].clone()  # torch refuses where all is copied

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
        return self._length, 0


def attention_mask(positions_BL: Tensor, length: int, window: int | None = None) -> Tensor:
    """Boolean mask (rows, 1, new positions, `length`): a token sees its own row up to itself, or a window of it."""
    keys = torch.arange(length, device=positions_BL.device)
    seen = keys <= positions_BL[:, :, None]
    if window is not None:
        seen &= keys > positions_BL[:, :, None] - window
    return seen[:, None]
