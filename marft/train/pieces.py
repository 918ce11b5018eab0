"""Optimizer states cut up over the processes, as ZeRO stages 2 and 3 have it.

Each process keeps AdamW's moments of its own piece of an agent's weights, laid end to end, gets the summed gradient of
that piece alone, makes the step there, and all pieces are put together again. The steps are those of an optimizer of
the whole, number by number, since AdamW looks at each weight by itself. DeepSpeed's own optimizer is not used: it
belongs to one model with one backward pass, one clipping and one step; here every agent has its own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from marft.train.workers import Workers


class Pieces:
    """An AdamW over `parameters` of which this process keeps its piece; each method is called by all processes.

    state: parameter -> the optimizer's state of it, between `collect` and `adopt` only.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], workers: Workers, **options: Any) -> None:
        self.parameters, self.workers = list(parameters), workers
        self.own = nn.Parameter(self._mine(self.parameters))
        self.inner = torch.optim.AdamW([self.own], **options)
        self.state: dict[nn.Parameter, dict[str, Tensor]] = defaultdict(dict)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return self.inner.param_groups

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.inner.zero_grad(set_to_none=set_to_none)
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Along `own.grad`, from the weights as they are now."""
        self.own.copy_(self._mine(self.parameters))
        self.inner.step()
        for parameter, piece in zip(self.parameters, self._whole(self.own), strict=True):
            parameter.copy_(piece)

    def collect(self) -> None:
        """Put the states of all processes into `state`, for a checkpoint."""
        self.state.clear()
        for key, held in self.inner.state[self.own].items():
            whole = [held] * len(self.parameters) if key == "step" else self._whole(held)
            for parameter, piece in zip(self.parameters, whole, strict=True):
                self.state[parameter][key] = piece.detach().cpu().clone()

    def adopt(self) -> None:
        """Take this process's piece of what a checkpoint has put into `state`, and empty it."""
        if self.state:
            states = [self.state[parameter] for parameter in self.parameters]
            for key in states[0]:
                column = [state[key] for state in states]
                self.inner.state[self.own][key] = column[0] if key == "step" else self._mine(column)
        self.state.clear()

    def _mine(self, tensors: Sequence[Tensor]) -> Tensor:
        return self.workers.piece(torch.cat([tensor.detach().flatten() for tensor in tensors])).clone()

    def _whole(self, piece: Tensor) -> list[Tensor]:
        """Of all pieces, what belongs to each parameter."""
        sizes = [parameter.numel() for parameter in self.parameters]
        parts = self.workers.assemble(piece.detach())[: sum(sizes)].split(sizes)
        return [part.view_as(parameter) for part, parameter in zip(parts, self.parameters, strict=True)]
