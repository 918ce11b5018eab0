"""Several agents' rows in one pass: the base's matrices see all tokens at once, each adapter only its own.

PEFT's layers compute one adapter for a whole batch. While `mixed_lora` is open they compute, of a pack whose tokens (or
a batch whose rows) lie agent by agent, each agent's part with that agent's LoRA; gradients reach all of them in one
backward pass.
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

Segments = Sequence[tuple[str | None, int]]
"""(PEFT's name of an adapter, or None for the bare base; how many tokens or rows it has), in their order."""


def mixable(layers: Sequence[BaseTunerLayer], keys: Sequence[str], head: object) -> bool:
    """Whether all layers with these adapters are plain LoRA on linear layers that every token goes through."""
    for layer in layers:
        if not any(key in layer.lora_A or key in layer.lora_embedding_A for key in keys):
            continue
        if type(layer) is not Linear or layer is head or layer.merged or any(key in layer.lora_variant for key in keys):
            return False
    return True


@contextlib.contextmanager
def mixed_lora(layers: Sequence[BaseTunerLayer], segments: Segments, along: int) -> Iterator[None]:
    """Until its end, forward and backward of the layers are those of the segments' adapters.

    along: 1 where the segments count the tokens of one pack, 0 where they count the rows of a batch.
    """
    for layer in layers:
        layer.forward = functools.partial(_forward, layer, segments, along)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _forward(layer: Linear, segments: Segments, along: int, x_RTD: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    result = layer.base_layer(x_RTD, *args, **kwargs)
    if not any(key in layer.lora_A for key, _ in segments):
        return result
    counts = [count for _, count in segments]
    if x_RTD.dim() != 3 or x_RTD.shape[along] != sum(counts) or (along == 1 and len(x_RTD) != 1):
        raise ValueError(f"a mixed pass of {sum(counts)} {('rows', 'tokens')[along]} met {tuple(x_RTD.shape)}")
    parts = []
    for (key, _), part in zip(segments, x_RTD.split(counts, along), strict=True):
        if key in layer.lora_A:
            down, up = layer.lora_A[key], layer.lora_B[key]
            parts.append(up(down(part.to(down.weight.dtype))) * layer.scaling[key])
        else:
            shape = (*part.shape[:2], result.shape[-1])
            parts.append(torch.zeros(shape, dtype=result.dtype, device=result.device))
    return (result + torch.cat(parts, along)).to(result.dtype)
