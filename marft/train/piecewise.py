"""A lesson in pieces: gradients of whole groups add up, at fixed weights, while others still play.

The optimizers step once, when the batch is complete, so the update is the one that the whole batch would have made and
stays on-policy (FlexMARL, 2602.09578). Only for algorithms whose credit is local to the group, see
`marft.credit.locality`; that it was is checked at the end against the credit of the whole batch. One gradient per agent
is in memory instead of one in all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from marft.credit import assess
from marft.episode import Episode
from marft.records import recorded
from marft.train.clock import Clock
from marft.train.gathering import Part, join
from marft.train.learning import Learning, Lesson
from marft.train.rows import build_rows
from marft.train.table import duplicates

CLOSE = 1e-6
"""Largest gap between a group's credit and the batch's, relative to the largest advantage: rounding, and no more."""


class Piecewise:
    """Update `number` of the run: `add` scored episodes, whole groups at a time, then `finish` it."""

    def __init__(self, learning: Learning, number: int, clock: Clock) -> None:
        self.learning, self.clock = learning, clock
        self.state: dict[str, Any] = {"progress": number / learning.recipe.train.updates}
        self.sums = {name: learning.updater.of(name).begin(one, number) for name, one in learning.learners.items()}
        self.parts: list[Part] = []
        self.advantages: list[np.ndarray] = []

    def add(self, episodes: Sequence[Episode]) -> None:
        """Their credit, and their gradients under the present weights."""
        with self.clock("credit"):
            same_U = duplicates(episodes)
            rollout, wanted = self.learning.recipe.rollout, self.learning.recipe.train.token_episodes
            share = recorded(len(episodes), rollout.groups * rollout.group_size, wanted)
            rows = build_rows(episodes, same_U=same_U, labelled=share)
            part = self.learning.part(episodes, rows, same_U)
            shares, _, advantage = self.learning.credited(join([part], 0), rows, same_U, self.state)
            self.parts.append(part)
            self.advantages.append(advantage)
        with self.clock("update"):
            for name, sums in self.sums.items():
                self.learning.updater.of(name).add(sums, shares.get(name, ()))

    def finish(self) -> Lesson:
        """Make the steps; every process calls it."""
        workers = self.learning.workers
        with self.clock("credit"):
            sizes = workers.gather([sum(len(part.table["reward_U"]) for part in self.parts)])
            batch = join(workers.gather(self.parts), 0)
            credit = assess(self.learning.algorithm, batch.table, self.state)
            own = slice(sum(sizes[: workers.rank]), sum(sizes[: workers.rank + 1]))
            self._check(credit.advantage_U[own])
        with self.clock("update"):
            reports = {name: self.learning.updater.of(name).finish(sums) for name, sums in self.sums.items()}
        tokens = self.learning.updater.records.take()
        return Lesson(reports, {}, credit.state, batch.table, credit.advantage_U, tokens=tokens)

    def _check(self, whole_U: np.ndarray) -> None:
        ours_U = np.concatenate(self.advantages) if self.advantages else np.zeros(0)
        gap = np.abs(ours_U - whole_U).max(initial=0.0)
        if not gap <= CLOSE * max(1.0, np.abs(whole_U).max(initial=0.0)):
            raise AssertionError(
                f"rollout.pipeline: credit of single groups and of the batch differ by {gap:.3g}; a defect of marft: "
                "this algorithm is not local to the group"
            )
