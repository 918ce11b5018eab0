"""Balancing at scale, simulated without a model: 4 to 512 replicas, 10 to 10,000 concurrent episodes.

Episodes have log-normal numbers of turns and lengths of answers; twice as many as run at once are played, the next one
starting when one ends. A replica decodes all that run on it together, a step in `STEP + STEP_EACH * running` seconds,
at most `BATCH` at once; a new request first computes what of its prompt is not cached, and meanwhile nobody decodes.
Each replica keeps keys and values of `CACHE` tokens, of the episodes that it served last. The picks are those of
marft.engines.balance.

The choice it led to: affinity, and an episode moves when its replica has over 8 more requests in flight than the least
loaded. Staying saves more than an even load does; moving costs nothing where replicas are alike and shortens the end of
a rollout where some are slow.
"""

from __future__ import annotations

import heapq
import random
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import fmean, median

from marft.engines.balance import Balancer

STEP, STEP_EACH = 10e-3, 50e-6
"""Seconds of a decoding step, and for each sequence in it: a model of some 8 B parameters on one large GPU."""
PREFILL = 20_000
"""Tokens a second."""
BATCH, CACHE = 256, 1_000_000
RULES = 400
"""Tokens every episode begins with; the same for all, so computed once a replica."""
THINK = 0.02
"""Mean seconds between a turn's answer and the next request: the game and the other seats."""
SIZES = (
    (4, 10, 0),
    (4, 100, 0),
    (4, 1_000, 0),
    (4, 1_000, 1),
    (4, 10_000, 0),
    (32, 1_000, 0),
    (32, 1_000, 8),
    (32, 10_000, 0),
    (512, 10_000, 0),
)
"""Replicas, concurrent episodes, replicas at half the speed."""
STRATEGIES = {
    "random": {"strategy": "random"},
    "least loaded": {"strategy": "least_loaded"},
    "affinity": {"strategy": "affinity", "move_above": None},
    "affinity, moving": {"strategy": "affinity", "move_above": 8},
}


@dataclass(slots=True)
class Figures:
    """Of one simulation, in seconds. scheduler: in pick, begin and end, the median of requests. busy: share of the
    replicas' time. cached: tokens of earlier turns found in the cache, of all there were."""

    latencies: list[float]
    scheduler: float
    makespan: float
    busy: float
    cached: float

    def quantile(self, share: float) -> float:
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


@dataclass(slots=True)
class Episode:
    """turns: (new tokens heard, tokens answered) of each. prefix: tokens so far."""

    name: str
    turns: list[tuple[int, int]]
    turn: int = 0
    prefix: int = 0
    asked: float = 0.0


@dataclass(slots=True, eq=False)
class Server:
    """A replica. `virtual` counts the tokens that each running sequence has decoded; it stands while prompts are
    computed, until `stalled`.

    running: (virtual time of its end, order, episode). cache: episode -> tokens held, the last used last.
    """

    running: list[tuple[float, int, Episode]] = field(default_factory=list)
    waiting: deque[Episode] = field(default_factory=deque)
    cache: OrderedDict[str, int] = field(default_factory=OrderedDict)
    held: int = 0
    virtual: float = 0.0
    seen: float = 0.0
    stalled: float = 0.0
    busy: float = 0.0
    version: int = 0
    warm: bool = False
    speed: float = 1.0

    def rate(self) -> float:
        return self.speed / (STEP + STEP_EACH * len(self.running))

    def advance(self, now: float) -> None:
        """Let the time go by."""
        if self.running:
            self.busy += now - self.seen
            self.virtual += max(0.0, now - max(self.seen, self.stalled)) * self.rate()
        self.seen = now

    def next_end(self) -> float:
        end = max(0.0, self.running[0][0] - self.virtual)
        return max(self.seen, self.stalled) + end / self.rate()

    def admit(self, order: int) -> tuple[int, int]:
        """Start the first that waits; returns (tokens found in the cache, tokens that every turn before had in it)."""
        episode = self.waiting.popleft()
        heard, said = episode.turns[episode.turn]
        prompt = episode.prefix + heard
        had = self.cache.pop(episode.name, 0)
        self.held -= had
        found = max(had, RULES if self.warm else 0)
        self.warm = True
        self.stalled = max(self.seen, self.stalled) + (prompt - min(found, prompt)) / (PREFILL * self.speed)
        heapq.heappush(self.running, (self.virtual + said, order, episode))
        self.cache[episode.name] = prompt + said
        self.held += prompt + said
        while self.held > CACHE and len(self.cache) > len(self.running):
            self.held -= self.cache.popitem(last=False)[1]
        return min(had, episode.prefix), episode.prefix


def simulate(replicas: int, concurrent: int, strategy: str, *, slow: int = 0, seed: int = 0) -> Figures:
    """Play 2 * `concurrent` episodes, so many at once, with `slow` of the replicas at half the speed."""
    rng = random.Random(f"{seed} {replicas} {concurrent}")  # the same episodes for every strategy
    think = random.Random(seed)
    balancer = Balancer(**STRATEGIES[strategy])
    servers: dict[str, Server] = {}
    for number in range(replicas):
        servers[f"r{number}"] = Server(speed=0.5 if number < slow else 1.0)
        balancer.add(f"r{number}")
    coming = deque(_episode(rng, number) for number in range(2 * concurrent))
    events: list[tuple[float, int, Episode | None, str, int]] = []  # when, order, who asks; or whose next end, version
    order = 0
    latencies: list[float] = []
    found = possible = now = 0.0
    sent: list[float] = []
    ended: list[float] = []
    clock = time.perf_counter

    def plan(name: str, server: Server) -> None:
        nonlocal order
        server.version += 1
        if server.running:
            order += 1
            heapq.heappush(events, (server.next_end(), order, None, name, server.version))

    def arrive(episode: Episode, when: float) -> None:
        nonlocal order
        order += 1
        heapq.heappush(events, (when, order, episode, "", 0))

    def fill(server: Server) -> None:
        nonlocal order, found, possible
        while server.waiting and len(server.running) < BATCH:
            order += 1
            hit, most = server.admit(order)
            found, possible = found + hit, possible + most

    for _ in range(min(concurrent, len(coming))):
        arrive(coming.popleft(), think.expovariate(1 / THINK))
    while events:
        now, _, episode, name, version = heapq.heappop(events)
        if episode is not None:
            began = clock()
            name = balancer.pick(episode.name)
            balancer.begin(name)
            sent.append(clock() - began)
            server = servers[name]
            server.advance(now)
            episode.asked = now
            server.waiting.append(episode)
            fill(server)
            plan(name, server)
            continue
        server = servers[name]
        if version != server.version:
            continue
        server.advance(now)
        _, _, episode = heapq.heappop(server.running)
        latencies.append(now - episode.asked)
        heard, said = episode.turns[episode.turn]
        episode.prefix += heard + said
        episode.turn += 1
        over = episode.turn == len(episode.turns)
        began = clock()
        balancer.end(name)
        if over:
            balancer.forget(episode.name)
        ended.append(clock() - began)
        fill(server)
        plan(name, server)
        if not over:
            arrive(episode, now + think.expovariate(1 / THINK))
        elif coming:
            arrive(coming.popleft(), now + think.expovariate(1 / THINK))
    busy = sum(server.busy for server in servers.values()) / (now * replicas)
    scheduler = median(sent) + median(ended)
    return Figures(latencies, scheduler, now, busy, found / possible if possible else 1.0)


def _episode(rng: random.Random, number: int) -> Episode:
    """Median 4 turns, one in a hundred above 20; answers of 80 tokens in the median, new text of 60."""
    count = min(60, max(1, round(rng.lognormvariate(1.4, 0.7))))
    turns = [(_tokens(rng, 60, 0.6), _tokens(rng, 80, 0.8)) for _ in range(count)]
    turns[0] = (RULES + turns[0][0], turns[0][1])
    return Episode(f"e{number}", turns)


def _tokens(rng: random.Random, median: float, spread: float) -> int:
    return min(2048, max(1, round(median * rng.lognormvariate(0.0, spread))))


def table() -> list[tuple[str, str]]:
    """One row per size and strategy."""
    return [
        (_name(replicas, concurrent, slow, strategy), _line(_runs(replicas, concurrent, slow, strategy)))
        for replicas, concurrent, slow in SIZES
        for strategy in STRATEGIES
    ]


def _runs(replicas: int, concurrent: int, slow: int, strategy: str) -> list[Figures]:
    """Five simulations, one where it is large: small ones depend on where the longest episode happens to be."""
    seeds = 5 if concurrent <= 1_000 else 1
    return [simulate(replicas, concurrent, strategy, slow=slow, seed=seed) for seed in range(seeds)]


def _name(replicas: int, concurrent: int, slow: int, strategy: str) -> str:
    half = f" ({slow} at half speed)" if slow else ""
    return f"{replicas} replicas{half}, {concurrent:,} episodes: {strategy}"


def _line(runs: list[Figures]) -> str:
    def mean(figure: Callable[[Figures], float]) -> float:
        return fmean(map(figure, runs))

    return (
        f"{1e6 * mean(lambda run: run.scheduler):.1f} µs a request; latency p50 "
        f"{mean(lambda run: run.quantile(0.5)):.2f} s, p99 {mean(lambda run: run.quantile(0.99)):.2f} s; busy "
        f"{mean(lambda run: run.busy):.0%}; prefixes cached {mean(lambda run: run.cached):.0%}; makespan "
        f"{mean(lambda run: run.makespan):.1f} s"
    )


if __name__ == "__main__":
    began = time.process_time()
    for what, figure in table():
        print(f"| {what} | {figure} |")
    print(f"{time.process_time() - began:.0f} s of one core")
