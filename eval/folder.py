"""The folder of an evaluation: what was to be played, and what has been, shard by shard.

config.yaml     the resolved evaluation, usable as a suite again     episodes/   Parquet, one file a shard
plan.json       teams with hashes, versions, matches and pairs       exact/      exact figures, one file a match
results.json    what came out

A shard is a run of consecutive episodes of one game, played by itself: what it holds does not depend on which others
were played before it in the same process, so an evaluation that was killed and resumed leaves the same results.
"""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from marft.episode import Episode
from marft.errors import RunFolderError
from marft.eval.evaluation import Evaluation
from marft.eval.matches import Schedule
from marft.files import write_text
from marft.publish.load import is_published
from marft.recipe import to_yaml
from marft.store import read_parquet, write_parquet
from marft.train.folder import is_run

SHARD = 256
"""Episodes of a shard: enough to fill an engine's batches, few enough to lose."""
PLAN = 1
"""Version of plan.json."""


@dataclass(frozen=True)
class Shard:
    """number: of all shards. parts: (match, start, stop) of the episodes it holds; all are of one game."""

    number: int
    parts: tuple[tuple[int, int, int], ...]

    @property
    def episodes(self) -> int:
        return sum(stop - start for _, start, stop in self.parts)

    def path(self, folder: Path) -> Path:
        return folder / "episodes" / f"update-000000-{self.number:05d}.parquet"


def shards_of(schedule: Schedule) -> list[Shard]:
    """All shards, in the order they are played: the matches' episodes one after the other, cut after SHARD of them and
    where the game changes."""
    cut: list[list[tuple[int, int, int]]] = []
    room, playing = 0, None
    for group, match in enumerate(schedule.matches):
        start, game = 0, (match.game, match.options)
        while start < match.episodes:
            if not room or game != playing:
                cut.append([])
                room, playing = SHARD, game
            stop = min(start + room, match.episodes)
            cut[-1].append((group, start, stop))
            room -= stop - start
            start = stop
    return [Shard(number, tuple(parts)) for number, parts in enumerate(cut)]


class EvalFolder:
    """One evaluation's folder, locked for this process as long as it is open."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: Any = None

    def open(self, *, resume: bool, overwrite: bool) -> None:
        """Lock the folder. RunFolderError where it holds an evaluation that is neither gone on with nor to go."""
        if resume and overwrite:
            raise RunFolderError("--resume goes on with an evaluation and --overwrite removes it; give one of them")
        if is_run(self.path) or is_published(self.path):
            raise RunFolderError(f"{self.path} is a team's own folder, whose episodes stay; choose another --out")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = open(self.path / ".lock", "a")  # noqa: SIM115 - held until close
        except OSError as error:
            raise RunFolderError(f"{self.path} cannot be written: {error.strerror}; choose --out") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.close()
            raise RunFolderError(f"{self.path} is in use by another process; choose another --out") from None
        known = (self.path / "plan.json").exists()
        if self._played and not overwrite and not (resume and known):
            self.close()
            ways = "--resume, --overwrite" if known else "--overwrite (an earlier version's cannot be resumed)"
            raise RunFolderError(f"{self.path} holds an evaluation; pass {ways} or another --out")

    @property
    def _played(self) -> bool:
        """Whether anything was; an evaluation that died before its first shard has nothing to lose."""
        return (self.path / "results.json").exists() or any((self.path / "episodes").glob("*.parquet"))

    def close(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def begin(self, evaluation: Evaluation, plan: dict[str, Any], *, overwrite: bool) -> dict[str, Any]:
        """Store what is to be played, or check that it is what the folder holds; the plan that counts."""
        if overwrite:
            self._empty()
        for path in (*self.path.glob("episodes/.*"), *self.path.glob("exact/.*")):
            path.unlink()  # halves of files that a killed process was writing
        if self._played:
            stored = self.plan()
            _same(stored, plan, self.path)
            return stored
        data = evaluation.model_dump(mode="json", by_alias=True, exclude_defaults=True) | {"suite": evaluation.suite}
        write_text(self.path / "config.yaml", to_yaml(data))
        write_text(self.path / "plan.json", json.dumps(plan, indent=1) + "\n")
        return plan

    def plan(self) -> dict[str, Any]:
        """plan.json, of a version that is known here."""
        try:
            plan = json.loads((self.path / "plan.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunFolderError(f"{self.path} holds no evaluation: plan.json: {error}") from None
        if not isinstance(plan, dict) or plan.get("plan") != PLAN:
            raise RunFolderError(f"{self.path}/plan.json is not of version {PLAN}, which this version reads")
        return plan

    def missing(self, schedule: Schedule) -> list[Shard]:
        """The shards that are still to be played."""
        return [shard for shard in shards_of(schedule) if not shard.path(self.path).exists()]

    def add(self, shard: Shard, played: Sequence[Episode]) -> None:
        """A shard's episodes, whole or not at all."""
        write_parquet(played, shard.path(self.path))

    def episodes(self, schedule: Schedule) -> Iterator[tuple[int, list[Episode]]]:
        """Match by match its finished episodes, in the order of their `index`. RunFolderError where any is missing."""
        found: dict[int, dict[int, Episode]] = {}
        for shard in shards_of(schedule):
            if not shard.path(self.path).exists():
                raise RunFolderError(f"{self.path} has not been played to the end; go on with marft eval --resume")
            for one in read_parquet(shard.path(self.path)):
                if one.status == "done":
                    found.setdefault(one.group, {})[one.index] = one
            for group, _, stop in shard.parts:
                match = schedule.matches[group]
                if stop < match.episodes:
                    continue
                own = found.pop(group, {})
                if sorted(own) != list(range(match.episodes)):
                    raise RunFolderError(f"{self.path}: match {group} has {len(own)} of its {match.episodes} episodes")
                yield group, [own[index] for index in range(match.episodes)]

    def exact(self, group: int) -> Path:
        """Where the exact figure of a match's pair lies."""
        return self.path / "exact" / f"{group:05d}.json"

    def _empty(self) -> None:
        for name in ("config.yaml", "plan.json", "results.json"):
            (self.path / name).unlink(missing_ok=True)
        for name in ("episodes", "exact"):
            shutil.rmtree(self.path / name, ignore_errors=True)


def _same(stored: dict[str, Any], plan: dict[str, Any], path: Path) -> None:
    """What is resumed must be what was begun; only bootstrap and versions may differ."""
    keys = ("suite", "settings", "teams")
    before, now = (_flat({key: one[key] for key in keys} | _pairs_first(one["schedule"])) for one in (stored, plan))
    for key in dict.fromkeys((*before, *now)):
        if key != "settings.resamples" and before.get(key) != now.get(key):
            raise RunFolderError(
                f"{path} holds an evaluation with other settings: {key} is {before.get(key)!r:.80} there and "
                f"{now.get(key)!r:.80} here; set it back, or choose another --out"
            )


def _pairs_first(schedule: dict[str, Any]) -> dict[str, Any]:
    """Who meets whom says more than who sits where."""
    return {"pairs": schedule["pairs"], "matches": schedule["matches"]}


def _flat(data: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(data, dict) and data:
        parts: Iterator[tuple[Any, Any]] = iter(data.items())
    elif isinstance(data, list | tuple) and data:
        parts = iter(enumerate(data))
    else:
        return {prefix.removesuffix("."): data}
    return {key: value for name, below in parts for key, value in _flat(below, f"{prefix}{name}.").items()}
