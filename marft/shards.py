"""The base spread over the processes of a launch: DeepSpeed's ZeRO stage 3, for a frozen model.

Each process keeps its part of every weight. DeepSpeed's hooks gather a layer's weights from all processes when a pass
comes to the layer, forward and backward, and let them go behind it. A pass is therefore made by all processes or by
none: whoever has fewer micro-batches than another makes empty passes (`even`). Adapters are no part of it: they are
attached afterwards, and every process holds them whole.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import nn

Batch = TypeVar("Batch")
UNUSED = "deepspeed_shm_comm"
"""What DeepSpeed would compile for minutes at its first start on the CPU, behind a lock that outlives a kill; its
inference needs it, ZeRO does not."""
HELD = -1
"""Stands among the modules that use a weight just now; DeepSpeed's own have numbers from 0."""


class Whole:
    """A base of which every process has all; nothing has to be agreed on."""

    sharded = False

    @contextlib.contextmanager
    def whole(self) -> Iterator[None]:
        """Inside, all weights are here, and passes concern no other process; every process enters it."""
        yield

    @contextlib.contextmanager
    def held(self, module: nn.Module) -> Iterator[None]:
        """Inside, the weights of `module` are here, however often and in whatever way it is used."""
        yield

    def even(self, batches: Sequence[Batch], idle: Callable[[int], None]) -> Iterator[Batch]:
        """The batches; after them as many calls of `idle` as another process has batches more, each with its number."""
        yield from batches

    def any(self, flag: bool) -> bool:
        """Whether it is so on any of the processes that make passes together."""
        return flag


class Shards(Whole):
    """A base that was cut up. Every method is called by all processes alike.

    settings: the section `zero_optimization` of DeepSpeed's configuration. most: the largest of the processes' numbers.
    """

    sharded = True

    def __init__(
        self, model: nn.Module, settings: Mapping[str, Any], device: torch.device, most: Callable[[int], int]
    ) -> None:
        import deepspeed

        deepspeed.ops.__compatible_ops__[UNUSED] = False
        settings = {key: value for key, value in settings.items() if value != "auto"} | {"stage": 3}
        config = {"train_micro_batch_size_per_gpu": 1, "zero_optimization": settings}  # the size is never used
        self.engine, *_ = deepspeed.initialize(model=model, config=config)
        model.to(device)  # what is no weight: tables of positions
        self.parameters = [parameter for parameter in model.parameters() if hasattr(parameter, "ds_id")]
        self._most, self._whole = most, False

    def resident(self) -> int:
        """How many numbers of the base this process has now: its own parts, and what is gathered."""
        return sum(one.ds_tensor.numel() + one.numel() for one in self.parameters)

    def numel(self) -> int:
        """How many the base has."""
        return sum(one.ds_numel for one in self.parameters)

    @contextlib.contextmanager
    def whole(self) -> Iterator[None]:
        if self._whole:
            yield
            return
        with self._gathered(self.parameters):
            self._whole = True
            try:
                yield
            finally:
                self._whole = False

    @contextlib.contextmanager
    def held(self, module: nn.Module) -> Iterator[None]:
        if self._whole:
            yield
            return
        with self._gathered([one for one in module.parameters() if hasattr(one, "ds_id")]):
            yield

    def even(self, batches: Sequence[Batch], idle: Callable[[int], None]) -> Iterator[Batch]:
        most = len(batches) if self._whole else self._most(len(batches))
        yield from batches
        for number in range(len(batches), most):
            idle(number)

    def any(self, flag: bool) -> bool:
        return flag if self._whole else self._most(int(flag)) > 0

    @contextlib.contextmanager
    def _gathered(self, parameters: Sequence[nn.Parameter]) -> Iterator[None]:
        """The hooks let go of a weight behind its layer, gathered on purpose or not, unless another module uses it."""
        import deepspeed

        with deepspeed.zero.GatheredParameters(list(parameters)):
            for one in parameters:
                one.ds_active_sub_modules.add(HELD)
            try:
                yield
            finally:
                for one in parameters:
                    one.ds_active_sub_modules.clear()  # and marks of passes that went backward twice
