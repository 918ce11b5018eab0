"""How many threads the processor's part of torch computes with."""

from __future__ import annotations

import os

import torch

SMALL = 5_000_000
"""Parameters below which one thread is enough."""

_all = torch.get_num_threads()
_largest = 0


def fit_threads(model: torch.nn.Module) -> None:
    """One thread as long as all bases of this process are small; OMP_NUM_THREADS, where it is set, decides.

    A second thread makes such sizes half as fast again at best, and on a machine that is busy otherwise, threads that
    wait for each other at every operation take ten times as long as one.
    """
    global _largest
    if "OMP_NUM_THREADS" in os.environ:
        return
    _largest = max(_largest, sum(parameter.numel() for parameter in model.parameters()))
    torch.set_num_threads(1 if _largest < SMALL else _all)
