"""Other people's environments without their global randomness.

An environment that draws from Python's or numpy's shared generators would break the contract of games: an episode must
be a function of seed and answers, and the shared generators must stay as they were. `OwnChance` lends such code states
of its own for the time of each call.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np


class OwnChance:
    """States of the two shared generators that belong to one episode."""

    def __init__(self, seed: int) -> None:
        self._python: Any = random.Random(seed).getstate()
        self._numpy: Any = np.random.RandomState(seed % 2**32).get_state()

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Inside, the shared generators go on from this episode's states; after it they are as they were."""
        outer = random.getstate(), np.random.get_state()
        random.setstate(self._python)
        np.random.set_state(self._numpy)
        try:
            yield
        finally:
            self._python, self._numpy = random.getstate(), np.random.get_state()
            random.setstate(outer[0])
            np.random.set_state(outer[1])
