"""A thread that looks at every server every few seconds: takes out what is ill, restarts, feeds and takes back in."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from marft.config import Engine as Settings
from marft.engines.replica import LATE, STRIKES, Admin, Replica, Unwell
from marft.errors import EngineError
from marft.serve.fleet import Fleet
from marft.serve.server import Server

logger = logging.getLogger("marft")

PATIENCE = 5
"""Looks at a closed door after which a server of the launch is started again although its process lives."""


class Watch:
    """Looks after `replicas`; the engine's `admit`, `down` and `fatal` do what follows from it."""

    def __init__(
        self,
        settings: Settings,
        admin: Admin,
        fleet: Fleet | None,
        *,
        replicas: Callable[[], list[Replica]],
        admit: Callable[[Replica], None],
        down: Callable[[Replica, str], None],
        fatal: Callable[[EngineError], None],
        follow: Callable[[list[str]], None],
    ) -> None:
        self.settings, self.admin, self.fleet = settings, admin, fleet
        self._replicas, self._admit, self._down = replicas, admit, down
        self._fatal, self._follow = fatal, follow
        self._silent: dict[str, int] = {}
        self._given_up: set[str] = set()
        self._proved: set[str] = set()
        self._listed: str | None = None
        self._stop = threading.Event()
        self._hurry = threading.Event()
        self._pool = ThreadPoolExecutor(16, thread_name_prefix="marft-health")
        self._thread = threading.Thread(target=self._run, name="marft-watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._hurry.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._pool.shutdown()

    def hurry(self) -> None:
        """Look again now: something has just gone wrong."""
        self._hurry.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._hurry.clear()
            try:
                self._read_urls()
                for _ in self._pool.map(self._look, self._replicas()):
                    pass
            except EngineError as error:
                self._fatal(error)
            except Exception as error:  # a watch that dies silently would leave the run waiting for its deadline
                logger.exception("engine: the watch over the servers failed")
                self._fatal(EngineError(f"engine: the watch over the servers failed: {type(error).__name__}: {error}"))
                return
            self._hurry.wait(self.settings.health_every)

    def _look(self, replica: Replica) -> None:
        if replica.url in self._given_up:
            return
        server = self.fleet.server(replica.url) if self.fleet is not None else None
        if server is not None and not server.alive and not self._stop.is_set():
            self._down(replica, "its process has ended")
            if replica.url not in self._proved:
                raise self.fleet.broken(server, "ended before it was ready")
            self._restart(replica, server, "has ended")
            return
        try:
            self.admin.check_health(replica, self.settings.health_deadline)
        except (Unwell, EngineError) as error:
            self._ill(replica, server, str(error))
            return
        self._silent.pop(replica.url, None)
        if replica.up and replica.strikes >= STRIKES:
            self._down(replica, f"{replica.strikes} bad answers in a row")
        if replica.up:
            return
        replica.strikes = 0
        try:
            self._admit(replica)
        except Unwell as error:
            if replica.reason != str(error):
                self._down(replica, str(error))
            return
        self._proved.add(replica.url)

    def _ill(self, replica: Replica, server: Server | None, why: str) -> None:
        """One late answer may be a pause; two, or a closed door, take the replica out."""
        silent = self._silent[replica.url] = self._silent.get(replica.url, 0) + 1
        late = LATE in why
        if replica.up and (silent >= 2 or not late):
            self._down(replica, why)
        if server is None or self._stop.is_set():
            return
        if replica.state == "starting" and self.fleet.late(server):
            self._restart(replica, server, f"was not healthy within {self.fleet.launch.start_deadline:g} s")
        elif replica.state == "down" and silent >= (2 if late else PATIENCE):
            self._restart(replica, server, "does not answer any more")

    def _restart(self, replica: Replica, server: Server, why: str) -> None:
        """Start its process again; where that was done often enough, the run goes on without it if it can."""
        self._silent.pop(replica.url, None)
        try:
            self.fleet.restart(server, why)
        except EngineError as error:
            if not any(other.state in ("up", "starting") for other in self._replicas() if other is not replica):
                raise
            logger.error("%s", error)
            self.fleet.give_up(server)
            self._given_up.add(replica.url)
            return
        replica.state, replica.reason = "starting", f"it {why}"

    def _read_urls(self) -> None:
        """`urls_file`, where it has changed."""
        if self.settings.urls_file is None:
            return
        text = read_urls_file(self.settings.urls_file)
        if text != self._listed:
            self._listed = text
            self._follow(urls_in(text))


def read_urls_file(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise EngineError(f"engine.urls_file: {path} cannot be read: {error.strerror}") from None


def urls_in(text: str) -> list[str]:
    """One URL a line; empty lines and # comments do not count."""
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return [line.rstrip("/") for line in dict.fromkeys(lines) if line]
