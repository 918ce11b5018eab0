"""Where the episodes of an update come from: played for it, played meanwhile, or read from an earlier run.

A source brings this process's episodes of each update; it owns what it starts (an event loop, a thread) until `close`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from marft.config import Recipe
from marft.episode import Episode
from marft.errors import RunFolderError
from marft.rollout import Rollout, plan_update
from marft.store import read_episodes
from marft.train.folder import run_recipe
from marft.train.workers import Workers


class Supply(NamedTuple):
    """An update's episodes in the order of their groups, failed ones at the end of all or of their group; what to
    report about how they came."""

    played: list[Episode]
    gauges: dict[str, float]


class Source:
    """Brings episodes; this one none."""

    def take(self, update: int, versions: Mapping[str, int]) -> Supply:
        """The episodes of an update, trained on at these versions of the learners; every process calls it."""
        raise NotImplementedError

    def in_use(self) -> set[str]:
        """Policies that are playing now, between two updates."""
        return set()

    def state(self) -> dict[str, Any]:
        """What a resumed run has to know, JSON values; every process calls it and gets the same."""
        return {}

    def restore(self, update: int, state: Mapping[str, Any]) -> None:
        """Go on at `update` from what `state` said there."""
        return None

    def close(self) -> None:
        """Stop what plays."""
        return None


class Synchronous(Source):
    """Plays an update's episodes when they are asked for, and nothing while the trainer works."""

    def __init__(self, recipe: Recipe, rollout: Rollout, workers: Workers) -> None:
        self.recipe, self.rollout, self.workers = recipe, rollout, workers
        self._runner = asyncio.Runner()

    def take(self, update: int, versions: Mapping[str, int]) -> Supply:
        plans = plan_update(self.recipe, update, versions)
        mine = self.workers.mine(plans, [plan.group for plan in plans])
        self.rollout.model.prepare(sorted({policy for plan in plans for policy in plan.team.values()}))
        self.workers.wait()
        return Supply(self._runner.run(self.rollout.play(mine)), {})

    def close(self) -> None:
        self._runner.close()


class Replay(Source):
    """Reads the episodes that another run trained on, update by update; nothing plays, no engine is needed."""

    def __init__(self, recipe: Recipe, run: Path, workers: Workers) -> None:
        self.recipe, self.run, self.workers = recipe, run, workers
        recorded, last = run_recipe(run), recipe.train.updates - 1
        if recorded.game.name != recipe.game.name:
            raise RunFolderError(f"--replay: {run} played {recorded.game.name}, and the recipe {recipe.game.name}")
        if missing := sorted(recorded.agents.keys() - recipe.agents.keys()):
            name = missing[0]
            raise RunFolderError(f"--replay: {run} has an agent {name}, whom the recipe lacks; add agents.{name}")
        if not list((run / "episodes").glob(f"update-{last:06d}*.parquet")):
            held = len({path.stem.split("-")[1] for path in (run / "episodes").glob("update-*.parquet")})
            raise RunFolderError(f"--replay: {run} holds the episodes of {held} updates; set train.updates={held}")

    def take(self, update: int, versions: Mapping[str, int]) -> Supply:
        played = sorted(read_episodes(self.run, update), key=lambda episode: (episode.failed, episode.group))
        if not played:
            raise RunFolderError(f"--replay: {self.run} holds no episodes of update {update}")
        for episode in played:
            episode.terms = {}  # the recipe's own rewards are worked out anew
        return Supply(self.workers.mine(played, [episode.group for episode in played]), {})
