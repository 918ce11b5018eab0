"""An agent's optimizer: its state, its learning rate, and a clipped step along a gradient summed elsewhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from marft.bank import AdapterBank
from marft.config import Optimizer
from marft.train.pieces import Pieces
from marft.train.workers import Workers


@dataclass
class Learner:
    """An agent's training state. `version` counts its updates; the engine's adapter of that version made the rows.

    offload: whether the optimizer's state is kept off the device between steps (see `offload_state`).
    """

    name: str
    optimizer: torch.optim.AdamW | Pieces
    settings: Optimizer
    version: int = 0
    offload: bool = False


def make_learner(bank: AdapterBank, name: str, settings: Optimizer, workers: Workers | None = None) -> Learner:
    """A learner with a fresh AdamW over the agent's adapter."""
    return Learner(name, make_optimizer(bank.parameters(name), settings, workers), settings)


def make_optimizer(
    parameters: Sequence[nn.Parameter], settings: Optimizer, workers: Workers | None = None
) -> torch.optim.AdamW | Pieces:
    """A fresh AdamW; cut up over the processes where the launch asks for it."""
    options = {"lr": settings.learning_rate, "betas": settings.betas, "eps": settings.eps}
    options["weight_decay"] = settings.weight_decay
    if workers is not None and workers.pieces:
        return Pieces(parameters, workers, **options)
    return torch.optim.AdamW(parameters, **options)


def learning_rate(settings: Optimizer, update: int, updates: int) -> float:
    """The learning rate of update number `update` of `updates`: a linear rise, then the schedule's fall."""
    rise = min(1.0, (update + 1) / (settings.warmup_updates + 1))
    done = min(1.0, update / updates)
    fall = {"constant": 1.0, "linear": 1 - done, "cosine": 0.5 * (1 + math.cos(math.pi * done))}[settings.schedule]
    return settings.learning_rate * rise * fall


def flat_gradient(parameters: Sequence[nn.Parameter]) -> Tensor:
    """All gradients in one vector; zeros where there is none."""
    return flatten([parameter.grad for parameter in parameters], parameters)


def flatten(gradients: Sequence[Tensor | None], parameters: Sequence[nn.Parameter]) -> Tensor:
    """The same for gradients that stand apart from their parameters."""
    pairs = zip(gradients, parameters, strict=True)
    return torch.cat([(torch.zeros_like(p) if gradient is None else gradient).flatten() for gradient, p in pairs])


def apply_gradient(
    optimizer: torch.optim.AdamW | Pieces,
    parameters: Sequence[nn.Parameter],
    flat: Tensor,
    rate: float,
    max_norm: float,
    norm: float | None = None,
) -> None:
    """One step at this learning rate, along `flat` clipped to `max_norm`; no gradient is left in memory.

    norm: the whole gradient's, where `flat` is a piece of it.
    """
    flat = flat * min(1.0, max_norm / ((float(flat.norm()) if norm is None else norm) + 1e-6))
    if isinstance(optimizer, Pieces):
        optimizer.own.grad = flat.to(optimizer.own.dtype)
    else:
        pieces = flat.split([parameter.numel() for parameter in parameters])
        for parameter, piece in zip(parameters, pieces, strict=True):
            parameter.grad = piece.view_as(parameter).to(parameter.dtype)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)  # agents take turns: only one gradient is ever in memory
