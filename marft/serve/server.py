"""One server process: start it under a warden, ask whether it lives, read its log, stop it with all its children."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from marft.serve import warden
from marft.serve.command import Command

TAIL = 5
"""Lines of a server's log that an error shows, of those that name an error and of its end."""

_WRONG = re.compile(r"((?:\w+Error|\w*Exception|error):? .*)")


class Server:
    """A server of `command`, with its output in `log`. Not running until `start`."""

    def __init__(self, command: Command, log: Path) -> None:
        self.command, self.log = command, log
        self.starts = 0
        self._process: subprocess.Popen | None = None

    @property
    def url(self) -> str:
        return self.command.url

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        self.stop(grace=0.0)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, warden.__file__, *self.command.arguments],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=_environment(self.command.environment),
                start_new_session=True,  # Ctrl-C in the terminal is the run's to answer
            )
        self.starts += 1

    def stop(self, grace: float = warden.GRACE) -> None:
        """End the server and everything it started. Without grace all of it is killed at once."""
        process, self._process = self._process, None
        if process is None:
            return
        if grace <= 0:
            for pid in warden.descendants(process.pid):
                warden.send(pid, signal.SIGKILL)
        process.stdin.close()
        try:
            process.wait(grace + 10.0)
        except subprocess.TimeoutExpired:
            warden.send(process.pid, signal.SIGKILL)
            process.wait()

    def tail(self) -> str:
        """What the log says went wrong, and its end, for an error's message."""
        try:
            lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError as error:
            return f"(no log: {error})"
        wrong = dict.fromkeys(match[1] for match in map(_WRONG.search, lines) if match)
        return "\n".join([*list(wrong)[-TAIL:], *lines[-TAIL:]])


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _environment(extra: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without what belongs to its own launch, and the server's own."""
    own = {"RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "PYTHONPATH"}
    return {name: value for name, value in os.environ.items() if name not in own} | dict(extra)
