"""Which adapters must be live on every server: publishing, rolling back, feeding a server that was started anew.

Every version goes to a folder of its own, written whole before any server hears of it, and has a name of its own: a
reload under the same name could be answered from keys and values of the old weights. A version is spoken with only
after every server that is up has loaded it and passed the canary.
"""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from marft.engines.canary import verdict
from marft.engines.replica import ADMIN_DEADLINE, STRIKES, Admin, Replica, Unwell
from marft.errors import EngineError

logger = logging.getLogger("marft")


@dataclass(frozen=True)
class Served:
    """One adapter as servers know it.

    place: what servers are told to load it from; None for the base, which they hold. folder: where it is written.
    expected: the trainer's log-probs of the probe.
    """

    policy: str
    version: int
    name: str
    place: str | None
    folder: Path | None
    expected: np.ndarray


class Feed:
    """What is to be live. `current` maps a policy to what speaks for it now; `keep` older versions stay loaded.

    busy: whether requests under a name are in flight. removed: told of a folder that goes.
    """

    def __init__(self, admin: Admin, probe: Sequence[int], dtype: str, limit: float | None, keep: int) -> None:
        self.admin, self.probe, self.dtype, self.limit, self.keep = admin, list(probe), dtype, limit, keep
        self.busy: Callable[[str], bool] = lambda name: False
        self.removed: Callable[[Path], None] = lambda folder: None
        self.current: dict[str, Served] = {}
        self._older: dict[str, list[Served]] = {}
        self.lock = threading.RLock()

    def publish(self, new: Served, replicas: Callable[[], Sequence[Replica]]) -> None:
        """Make `new` what speaks for its policy: on all replicas that are up, or on none.

        A replica that fails as a server does not count, it has to prove itself again and is fed then. A refusal, a
        canary that fails, or an adapter that none of the well replicas can load raises EngineError, and is taken back.
        """
        with self.lock:
            loaded: list[Replica] = []
            failed: dict[Replica, Unwell] = {}
            try:
                for replica in replicas():
                    try:
                        if new.place is not None:
                            self.admin.load(replica, new.name, new.place)
                        loaded.append(replica)
                        self._check(replica, new)
                    except Unwell as error:
                        logger.warning("engine: %s could not be given %s: %s", replica.url, new.name, error)
                        replica.strikes, failed[replica] = STRIKES, error
                if failed.keys() >= set(loaded):
                    self._blame(new, failed)
            except EngineError:
                self._take_back(new, loaded)
                raise
            before = self.current.get(new.policy)
            self.current[new.policy] = new
            older = self._older.setdefault(new.policy, [])
            if before is not None and before.name != new.name:
                older.append(before)
            for served in older[: max(0, len(older) - self.keep)]:
                if not self.busy(served.name):  # a server that reads it again for a request would find nothing
                    older.remove(served)
                    self._take_back(served, replicas())

    def forget(self, policy: str, replicas: Sequence[Replica]) -> None:
        """A policy that speaks no more."""
        with self.lock:
            for served in (*self._older.pop(policy, ()), self.current.pop(policy)):
                self._take_back(served, replicas)

    def restore(self, replica: Replica) -> None:
        """Give a replica everything it must have, and check all of it. Unwell if it cannot; EngineError on a canary."""
        with self.lock:
            held = self.admin.adapters(replica)
            for served in self._all():
                if served.name not in held:
                    if served.place is None:
                        raise Unwell(
                            f"it does not serve {served.name!r}; start it with --served-model-name {served.name}"
                        )
                    self.admin.load(replica, served.name, served.place)
            for served in self.current.values():
                self._check(replica, served)

    def missing(self, replica: Replica) -> str | None:
        """Something that speaks now and the replica does not hold."""
        held = self.admin.adapters(replica)
        return next((served.name for served in self.current.values() if served.name not in held), None)

    def close(self, replicas: Sequence[Replica]) -> None:
        """Take everything back that a server of somebody else's would be left with."""
        with self.lock:
            for served in self._all():
                self._take_back(served, replicas)

    def _all(self) -> list[Served]:
        return [*(served for older in self._older.values() for served in older), *self.current.values()]

    def _check(self, replica: Replica, served: Served) -> None:
        found = self.admin.score(replica, served.name, self.probe)
        wrong = verdict(found, served.expected, self._others(served), self.dtype, self.limit)
        if wrong is not None:
            raise EngineError(
                f"canary: {replica.url} does not speak as {served.policy} version {served.version}, its "
                f"{served.name!r}: {wrong}"
            )

    def _blame(self, new: Served, failed: Mapping[Replica, Unwell]) -> None:
        """No replica took it: where one of them is well, it is the adapter's fault."""
        for replica, error in failed.items():
            try:
                self.admin.check_health(replica, ADMIN_DEADLINE)
            except Unwell:
                continue
            raise EngineError(f"engine: {replica.url} cannot be given {new.policy} version {new.version}: {error}")

    def _others(self, served: Served) -> dict[str, np.ndarray]:
        """Everything else that a server may have confused it with."""
        known = [one for one in self._all() if one.name != served.name]
        return {f"{one.policy} version {one.version}": one.expected for one in known}

    def _take_back(self, served: Served, replicas: Sequence[Replica]) -> None:
        if served.place is None:
            return
        for replica in replicas:
            try:
                self.admin.unload(replica, served.name)
            except (Unwell, EngineError) as error:
                logger.warning("engine: %s still holds %s: %s", replica.url, served.name, error)
        if served.folder is not None:
            self.removed(served.folder)
            shutil.rmtree(served.folder, ignore_errors=True)
