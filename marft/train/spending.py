"""What remote seats have cost a run: reported with every update, and counted on when the run is resumed."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from marft.engines.remote import RemoteEngine
from marft.engines.route import REMOTE
from marft.errors import RunFolderError
from marft.files import write_text
from marft.train.workers import Workers


class Spending:
    """The counters of a run's remote engine, over all processes, and the file that keeps them."""

    def __init__(self, remote: RemoteEngine | None, path: Path, workers: Workers) -> None:
        self.remote, self.path, self.workers = remote, path, workers
        self._begun = False

    def go_on(self) -> None:
        """Take up what the file says; a new run has none."""
        if self.remote is None:
            return
        try:
            if self.path.exists():
                self.remote.go_on(json.loads(self.path.read_text(encoding="utf-8")))
            self._begun = True
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise RunFolderError(f"{self.path} cannot be read ({error}); remove it to count from nothing") from None

    def record(self) -> dict[str, float]:
        """Write the file and return the gauges; every process calls it."""
        if self.remote is None:
            return {}
        everyone = self.workers.gather([self._own()])
        found = {policy: Counter() for policy in everyone[0]}
        for own in everyone:
            for policy, counted in own.items():
                found[policy].update(counted)
        if self.workers.main:
            self._write(found)
        return {
            f"remote/{policy.removeprefix(REMOTE)}/{name}": float(counted[name])
            for policy, counted in found.items()
            for name in ("answers", "failures", "tokens")
        }

    def keep(self) -> None:
        """Write the file once more at the end, which may have come in mid-update. One process among several cannot know
        what the others counted: what is on file then is of the last update."""
        if self._begun and self.workers.size == 1:
            self._write(self._own())

    def _own(self) -> dict[str, dict[str, int]]:
        return {policy: asdict(counters) for policy, counters in self.remote.counters.items()}

    def _write(self, counted: dict[str, dict[str, int]]) -> None:
        write_text(self.path, json.dumps(counted, indent=2) + "\n")
