"""The servers that one run (or `marft serve`) starts, and their restarts."""

from __future__ import annotations

import logging
import secrets
import time
from pathlib import Path

from marft.config import Launch, Recipe
from marft.errors import EngineError
from marft.serve.command import find_python, server_command
from marft.serve.server import Server, free_ports

logger = logging.getLogger("marft")


class Fleet:
    """`launch.replicas` servers of a recipe's base. `start` returns at once; health is for others to see to."""

    def __init__(
        self,
        recipe: Recipe,
        source: str,
        launch: Launch,
        logs: Path,
        *,
        on_cpu: bool,
        context: int,
        key: str | None = None,
    ) -> None:
        python = find_python(launch)
        count, self.launch, self.key = launch.replicas, launch, key or secrets.token_urlsafe(24)
        ports = [launch.port + number for number in range(count)] if launch.port else free_ports(count)
        self.servers = [
            Server(
                server_command(recipe, source, launch, number, port, self.key, python, on_cpu=on_cpu, context=context),
                logs / f"server-{number}.log",
            )
            for number, port in enumerate(ports)
        ]
        self._since: dict[str, float] = {}

    @property
    def urls(self) -> list[str]:
        return [server.url for server in self.servers]

    def start(self) -> None:
        for server in self.servers:
            self._begin(server)

    def server(self, url: str) -> Server | None:
        return next((server for server in self.servers if server.url == url), None)

    def late(self, server: Server) -> bool:
        """Whether a server has had all the time there is to become healthy."""
        return time.monotonic() - self._since[server.url] > self.launch.start_deadline

    def may_restart(self, server: Server) -> bool:
        return server.starts <= self.launch.restarts

    def restart(self, server: Server, why: str) -> None:
        """Start a server again; EngineError where that was done often enough."""
        if not self.may_restart(server):
            raise self.broken(server, f"{why}, after {server.starts} starts (engine.launch.restarts)")
        logger.warning("engine: the server at %s %s; starting it again", server.url, why)
        self._begin(server)

    def broken(self, server: Server, why: str) -> EngineError:
        """What to tell of a server that cannot be helped."""
        return EngineError(f"engine: the server at {server.url} {why}. From {server.log}:\n{server.tail()}")

    def give_up(self, server: Server) -> None:
        """A server that is not started again."""
        server.stop(grace=0.0)

    def stop(self) -> None:
        for server in self.servers:
            server.stop()

    def _begin(self, server: Server) -> None:
        server.start()
        self._since[server.url] = time.monotonic()
