"""Optimizer states that are on the device only for their own agent's step.

Agents take turns, so all but one state lies idle. It is moved by the optimizer's own hooks before and after each step:
whoever steps, saves or restores need not know where it is in between.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from marft.train.optimizer import Learner

Move = Callable[[Tensor], Tensor]


def offload_state(learner: Learner, away: Move | None = None) -> None:
    """Keep an agent's optimizer state off its parameters' device between steps; nothing to do where that is the cpu.

    away: where to, by default the cpu's memory, pinned so that it comes back fast.
    """
    optimizer, learner.offload = learner.optimizer, True
    devices = {parameter.device.type for group in optimizer.param_groups for parameter in group["params"]}
    if away is None and devices == {"cpu"}:
        return
    optimizer.register_step_pre_hook(lambda *_: bring_state(optimizer))
    optimizer.register_step_post_hook(lambda *_: move_state(optimizer, away or to_host))


def bring_state(optimizer: torch.optim.Optimizer) -> None:
    """Every state to its parameter, in the parameter's type."""
    for parameter, state in optimizer.state.items():
        for key, value in _moments(state):
            state[key] = value.to(parameter, non_blocking=True)


def move_state(optimizer: torch.optim.Optimizer, away: Move) -> None:
    for state in optimizer.state.values():
        for key, value in _moments(state):
            state[key] = away(value)


def to_host(value: Tensor) -> Tensor:
    """A copy in the cpu's memory, pinned where there is a CUDA device."""
    if value.device.type == "cpu":
        return value
    held = torch.empty(value.shape, dtype=value.dtype, pin_memory=torch.cuda.is_available())
    return held.copy_(value)


def _moments(state: dict[str, object]) -> list[tuple[str, Tensor]]:
    """What is as large as the parameter; `step`, a single number, stays where torch wants it."""
    return [(key, value) for key, value in state.items() if isinstance(value, Tensor) and value.dim()]
