"""Which replica a request goes to. Pure: no clock, no network."""

from __future__ import annotations

import random


class Balancer:
    """Picks a healthy replica: the session's own, else the one with the fewest requests in flight."""

    def __init__(self, strategy: str = "affinity", seed: int = 0) -> None:
        self.strategy = strategy
        self._load: dict[str, int] = {}
        self._assigned: dict[str, int] = {}
        self._healthy: set[str] = set()
        self._home: dict[str, str] = {}
        self._rng = random.Random(seed)

    def add(self, name: str) -> None:
        self._load[name] = self._assigned[name] = 0
        self._healthy.add(name)

    def remove(self, name: str) -> None:
        self.set_health(name, False)
        del self._load[name], self._assigned[name]

    def set_health(self, name: str, healthy: bool) -> None:
        (self._healthy.add if healthy else self._healthy.discard)(name)

    def pick(self, session: str) -> str | None:
        if not self._healthy:
            return None
        if self.strategy == "random":
            return self._rng.choice(sorted(self._healthy))
        home = self._home.get(session)
        if self.strategy == "affinity" and home in self._healthy:
            return home
        name = min(sorted(self._healthy), key=lambda one: (self._load[one], self._assigned[one]))
        if self.strategy == "affinity" and session:
            self._home[session] = name
            self._assigned[name] += 1
        return name

    def begin(self, name: str) -> None:
        self._load[name] += 1

    def end(self, name: str) -> None:
        if name in self._load:
            self._load[name] -= 1

    def clear(self) -> None:
        self._home.clear()
        self._assigned = dict.fromkeys(self._assigned, 0)
