"""One engine a base, where agents are on several: each request goes to the engine of its policy's base.

All engines work at the same time as far as they can: servers do, those in this process take turns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace

from marft.engines.base import Completion, Request, Trained
from marft.engines.route import WITHOUT_TOKENS, first_error


class EngineByBase:
    """Engines by their base's key. home: policy -> (key of its base, its name there)."""

    def __init__(self, engines: Mapping[str, Trained], home: Callable[[str], tuple[str, str]]) -> None:
        self.engines, self._home = engines, home
        self.shares_weights = any(engine.shares_weights for engine in engines.values())

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        parts: dict[str, list[int]] = {}
        asked = []
        for number, request in enumerate(requests):
            key, name = self._home(request.policy)
            parts.setdefault(key, []).append(number)
            asked.append(request if name == request.policy else replace(request, policy=name))
        if len(parts) == 1:
            (key,) = parts
            return await self.engines[key].generate(asked)
        try:
            async with asyncio.TaskGroup() as tasks:
                made = {
                    key: tasks.create_task(self.engines[key].generate([asked[number] for number in numbers]))
                    for key, numbers in parts.items()
                }
        except BaseExceptionGroup as errors:
            raise first_error(errors) from None
        found = {}
        for key, numbers in parts.items():
            found |= dict(zip(numbers, made[key].result(), strict=True))
        return [found[number] for number in range(len(requests))]

    def start(self) -> None:
        for engine in self.engines.values():
            engine.start()

    def publish(self, agent: str, version: int) -> None:
        self.engines[self._home(agent)[0]].publish(agent, version)

    def prepare(self, policies: Sequence[str]) -> None:
        """Every engine is told of its own, also of none: it may forget what will not be asked for."""
        parts: dict[str, list[str]] = {key: [] for key in self.engines}
        for policy in policies:
            if policy.startswith(WITHOUT_TOKENS):
                continue
            key, name = self._home(policy)
            parts[key].append(name)
        for key, names in parts.items():
            self.engines[key].prepare(names)

    def end_sessions(self, start: str = "") -> None:
        for engine in self.engines.values():
            engine.end_sessions(start)

    def close(self) -> None:
        """All of them, also where one cannot be closed."""
        with ExitStack() as stack:
            for engine in self.engines.values():
                stack.callback(engine.close)
