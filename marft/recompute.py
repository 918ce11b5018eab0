"""Activation checkpointing that leaves the model in evaluation mode.

transformers checkpoints a layer only while it is in training mode, which some models' layers take as a word to drop
activations out; here what was sampled must be what is trained. So the layers that transformers marks as fit for it are
given a forward pass that is checkpointed wherever a gradient is asked for, and else is their own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from marft.errors import ModelError


def checkpoint_layers(model: nn.Module) -> int:
    """Let every layer of `model` keep only its input for the backward pass; returns how many there are."""
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not layers:
        raise ModelError(
            f"train.activation_checkpointing: transformers marks no layer of {type(model).__name__} as fit for it; "
            "set it false"
        )
    for layer in layers:
        layer.forward = _recomputed(layer.forward)
    return len(layers)


def _recomputed(forward: Callable[..., Any]) -> Callable[..., Any]:
    def run(*inputs: Any, **named: Any) -> Any:
        if not torch.is_grad_enabled() or named.get("past_key_values") is not None:
            return forward(*inputs, **named)
        # no layer draws random numbers in evaluation mode, so their state need not be kept
        return checkpoint(forward, *inputs, use_reentrant=False, preserve_rng_state=False, **named)

    return run
