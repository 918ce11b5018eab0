"""Several agents' rows in one pass: the base's matrices see all tokens at once, each adapter only its own.

PEFT's layers compute one adapter for a whole batch. While `mixed_lora` is open they compute, of a pack whose tokens
lie agent by agent, each agent's part with that agent's LoRA; gradients reach all of them in one backward pass.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from peft.tuners.lora import Linear
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor

from marft.linear import OneDnnLoraLinear

Segments = Sequence[tuple[str, int]]
"""(PEFT's name of an adapter, how many tokens it has), in the order of the pack."""


def mixable(layers: Sequence[BaseTunerLayer], keys: Sequence[str], head: object) -> bool:
    """Whether all layers with these adapters are plain LoRA on linear layers that every token goes through."""
    for layer in layers:
        if not any(key in layer.lora_A or key in layer.lora_embedding_A for key in keys):
            continue
        if (
            type(layer) not in (Linear, OneDnnLoraLinear)
            or layer is head
            or layer.merged
            or any(key in layer.lora_variant for key in keys)
        ):
            return False
    return True


@contextlib.contextmanager
def mixed_lora(layers: Sequence[BaseTunerLayer], segments: Segments) -> Iterator[None]:
    """Until its end, forward and backward of the layers are those of the segments' adapters."""
    for layer in layers:
        layer.forward = functools.partial(_forward, layer, segments)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _forward(layer: Linear, segments: Segments, x_1TD: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    if not any(key in layer.lora_A for key, _ in segments):
        return layer.base_layer(x_1TD, *args, **kwargs)
    if x_1TD.dim() != 3 or len(x_1TD) != 1 or x_1TD.shape[1] != sum(count for _, count in segments):
        raise ValueError(f"a mixed pass of {sum(count for _, count in segments)} tokens met {tuple(x_1TD.shape)}")
    pieces = x_1TD.split([count for _, count in segments], 1)
    if type(layer) is OneDnnLoraLinear and all(layer.computes(key, x_1TD) for key, _ in segments):
        return torch.cat([layer.adapted(key, part) for (key, _), part in zip(segments, pieces, strict=True)], 1)
    result = layer.base_layer(x_1TD, *args, **kwargs)
    parts = []
    for (key, count), part in zip(segments, pieces, strict=True):
        if key in layer.lora_A:
            down, up = layer.lora_A[key], layer.lora_B[key]
            parts.append(up(down(part.to(down.weight.dtype))) * layer.scaling[key])
        else:
            parts.append(torch.zeros((1, count, result.shape[-1]), dtype=result.dtype, device=result.device))
    return (result + torch.cat(parts, 1)).to(result.dtype)
