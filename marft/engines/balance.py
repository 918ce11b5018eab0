"""Which of several servers answers a request. Pure: no clients, no clock; whoever sends requests tells what happens.

`random`: any healthy replica. `least_loaded`: the one with the fewest requests in flight. `affinity`: an episode stays
where it is as long as that replica is healthy and not far busier than others, since the server holds the keys and
values of what came before; a new one goes to the least loaded, of several to the one with the fewest episodes.

The least loaded is found without looking at all: a heap holds for every healthy replica one entry that is never above
its present load. Loads that fall are entered at once, loads that rose when they come to the top.
"""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass
from typing import Literal

from marft.errors import EngineError
from marft.lookup import nearest

Strategy = Literal["random", "least_loaded", "affinity"]
MOVE_ABOVE = 8
"""By the simulation in benchmarks/balancing.py: free where replicas are alike, a gain where some are slow."""
Entry = tuple[int, int, int]
"""Requests in flight, episodes assigned, the replica's number: the least comes first."""


@dataclass(slots=True, eq=False)
class _Replica:
    """number: given once, in the order of adding. entry: the one in the heap that counts. place: among the healthy."""

    name: str
    number: int
    load: int = 0
    sessions: int = 0
    healthy: bool = True
    entry: Entry | None = None
    place: int = -1

    @property
    def key(self) -> Entry:
        return (self.load, self.sessions, self.number)


class Balancer:
    """Picks replicas. Call `begin` and `end` around each request, `forget` when an episode is over.

    move_above: with `affinity`, an episode moves to the least loaded replica when its own has more than this many
        requests in flight beyond it; None: never.
    """

    def __init__(self, strategy: Strategy = "affinity", *, move_above: int | None = MOVE_ABOVE, seed: int = 0) -> None:
        self.strategy, self.move_above = strategy, move_above
        self._rng = random.Random(seed)
        self._replicas: dict[str, _Replica] = {}
        self._numbers: dict[int, _Replica] = {}
        self._healthy: list[_Replica] = []
        self._sessions: dict[str, _Replica] = {}
        self._leaving: dict[str, int] = {}
        self._heap: list[Entry] = []
        self._added = 0

    @property
    def loads(self) -> dict[str, int]:
        """Requests in flight by replica."""
        return {name: replica.load for name, replica in self._replicas.items()}

    @property
    def sessions(self) -> dict[str, int]:
        """Episodes assigned by replica."""
        return {name: replica.sessions for name, replica in self._replicas.items()}

    def add(self, name: str) -> None:
        """A new, healthy replica. One that comes back counts the requests that it has not ended yet."""
        if name in self._replicas:
            raise EngineError(f"engine: replica {name} is there already")
        replica = _Replica(name, self._added, self._leaving.pop(name, 0))
        self._added += 1
        self._replicas[name] = self._numbers[replica.number] = replica
        self._take_in(replica)

    def remove(self, name: str) -> None:
        """Its episodes go elsewhere when they next ask; requests in flight may still `end`."""
        replica = self._replicas.pop(self._known(name).name)
        del self._numbers[replica.number]
        if replica.healthy:
            self._leave_out(replica)
        if replica.load:
            self._leaving[name] = replica.load

    def set_health(self, name: str, healthy: bool) -> None:
        """An unhealthy replica is not picked; its episodes go elsewhere when they next ask."""
        replica = self._known(name)
        if healthy and not replica.healthy:
            self._take_in(replica)
        elif replica.healthy and not healthy:
            self._leave_out(replica)

    def pick(self, session: str) -> str | None:
        """The replica for the next request of an episode ("": of none); None where none is healthy."""
        if self.strategy == "random":
            return self._rng.choice(self._healthy).name if self._healthy else None
        if self.strategy == "least_loaded" or not session:
            least = self._least()
            return least.name if least is not None else None
        own = self._sessions.get(session)
        if own is not None and own.healthy:
            if self.move_above is None:
                return own.name
            least = self._least()
            if own.load - least.load <= self.move_above:
                return own.name
        else:
            least = self._least()
        if least is None:
            return None
        if own is not None:
            self._release(own)
        self._sessions[session] = least
        least.sessions += 1
        return least.name

    def begin(self, name: str) -> None:
        """A request was sent to the replica."""
        self._known(name).load += 1

    def end(self, name: str) -> None:
        """A request to the replica is over, however it went."""
        replica = self._replicas.get(name)
        if replica is not None and replica.load:
            replica.load -= 1
            self._lowered(replica)
        elif replica is None and name in self._leaving:
            self._leaving[name] -= 1
            if not self._leaving[name]:
                del self._leaving[name]
        else:
            raise EngineError(f"engine: a request to replica {name} ended that had not begun")

    def forget(self, session: str) -> None:
        """The episode is over."""
        replica = self._sessions.pop(session, None)
        if replica is not None:
            self._release(replica)

    def clear(self, start: str = "") -> None:
        """The episodes whose names begin so are over."""
        for session in [one for one in self._sessions if one.startswith(start)]:
            self.forget(session)

    def _known(self, name: str) -> _Replica:
        if name not in self._replicas:
            raise EngineError(f"engine: no replica {name!r}{nearest(name, self._replicas)}")
        return self._replicas[name]

    def _release(self, replica: _Replica) -> None:
        replica.sessions -= 1
        self._lowered(replica)

    def _take_in(self, replica: _Replica) -> None:
        replica.healthy, replica.place = True, len(self._healthy)
        self._healthy.append(replica)
        self._enter(replica)

    def _leave_out(self, replica: _Replica) -> None:
        last = self._healthy.pop()
        if last is not replica:
            self._healthy[replica.place], last.place = last, replica.place
        replica.healthy, replica.entry = False, None

    def _lowered(self, replica: _Replica) -> None:
        if replica.entry is not None and replica.key < replica.entry:
            self._enter(replica)

    def _enter(self, replica: _Replica) -> None:
        replica.entry = replica.key
        heapq.heappush(self._heap, replica.entry)
        if len(self._heap) > 4 * len(self._healthy) + 64:  # most of it is out of date
            self._heap = [one.entry for one in self._healthy if one.entry is not None]
            heapq.heapify(self._heap)

    def _least(self) -> _Replica | None:
        """The healthy replica with the smallest key."""
        while self._heap:
            entry = self._heap[0]
            replica = self._numbers.get(entry[2])
            if replica is None or replica.entry is not entry:
                heapq.heappop(self._heap)
            elif entry == (key := replica.key):
                return replica
            else:
                replica.entry = key
                heapq.heapreplace(self._heap, key)
        return None
