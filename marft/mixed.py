"""Several agents' rows in one pass: the base's matrices see all tokens at once, each adapter only its own.

PEFT's layers compute one adapter for a whole batch. While `mixed_lora` is open they compute, of a pack whose tokens lie
agent by agent, each agent's part with that agent's LoRA; gradients reach all of them in one backward pass. While
`mixed_rows` is open they do so for a batch whose rows lie in any order, without gradients.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from peft.tuners.lora import Linear
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor

Segments = Sequence[tuple[str, int]]
"""(PEFT's name of an adapter, how many tokens it has), in the order of the pack."""
Rows = Sequence[tuple[str, slice | Tensor]]
"""(PEFT's name of an adapter, which rows of the batch are its)."""


def mixable(layers: Sequence[BaseTunerLayer], keys: Sequence[str], head: object) -> bool:
    """Whether all layers with these adapters are plain LoRA on linear layers that every token goes through."""
    for layer in layers:
        if not any(key in layer.lora_A or key in layer.lora_embedding_A for key in keys):
            continue
        if type(layer) is not Linear or layer is head or layer.merged or any(key in layer.lora_variant for key in keys):
            return False
    return True


@contextlib.contextmanager
def mixed_lora(layers: Sequence[BaseTunerLayer], segments: Segments) -> Iterator[None]:
    """Until its end, forward and backward of the layers are those of the segments' adapters."""
    with _replaced(layers, _forward, segments):
        yield


@contextlib.contextmanager
def mixed_rows(layers: Sequence[BaseTunerLayer], rows: Rows, count: int) -> Iterator[None]:
    """Until its end, batches of `count` rows pass the layers, each row with its adapter or none; without gradients."""
    with _replaced(layers, _forward_rows, rows, count):
        yield


@contextlib.contextmanager
def _replaced(layers: Sequence[BaseTunerLayer], forward: Callable[..., Tensor], *given: Any) -> Iterator[None]:
    for layer in layers:
        layer.forward = functools.partial(forward, layer, *given)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _forward(layer: Linear, segments: Segments, x_1TD: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    result = layer.base_layer(x_1TD, *args, **kwargs)
    if not any(key in layer.lora_A for key, _ in segments):
        return result
    if x_1TD.dim() != 3 or len(x_1TD) != 1 or x_1TD.shape[1] != sum(count for _, count in segments):
        raise ValueError(f"a mixed pass of {sum(count for _, count in segments)} tokens met {tuple(x_1TD.shape)}")
    parts = []
    for (key, count), part in zip(segments, x_1TD.split([count for _, count in segments], 1), strict=True):
        if key in layer.lora_A:
            parts.append(_lora(layer, key, part))
        else:
            parts.append(torch.zeros((1, count, result.shape[-1]), dtype=result.dtype, device=result.device))
    return (result + torch.cat(parts, 1)).to(result.dtype)


def _forward_rows(layer: Linear, rows: Rows, count: int, x_BTD: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    result = layer.base_layer(x_BTD, *args, **kwargs)
    if x_BTD.dim() != 3 or len(x_BTD) != count:
        raise ValueError(f"a mixed pass of {count} rows met {tuple(x_BTD.shape)}")
    for key, own in rows:
        if key in layer.lora_A:
            result[own] = (result[own] + _lora(layer, key, x_BTD[own])).to(result.dtype)
    return result


def _lora(layer: Linear, key: str, x: Tensor) -> Tensor:
    down, up = layer.lora_A[key], layer.lora_B[key]
    return up(down(x.to(down.weight.dtype))) * layer.scaling[key]
