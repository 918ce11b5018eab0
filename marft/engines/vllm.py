"""Completions from vLLM servers: token ids in, token ids and log-probs out.

Every request goes to one replica, which its episode prefers as long as that is well, because it holds the keys and
values of what came before. An answer that does not come, or is none, is asked for again elsewhere; the request's seed
goes with it. A thread of its own watches the servers and feeds those that were started anew.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import random
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx
import numpy as np

from marft.config import Recipe
from marft.engines.balance import Balancer
from marft.engines.base import Completion, Request
from marft.engines.feed import Feed, Served
from marft.engines.hf import FROZEN
from marft.engines.replica import AdapterLost, Admin, Replica, Unwell, check_status, read_completion, request_body
from marft.engines.watch import Watch, read_urls_file, urls_in
from marft.errors import EngineError
from marft.serve.command import BASE
from marft.serve.fleet import Fleet
from marft.serve.hub import Hub

logger = logging.getLogger("marft")

PAUSE = 0.1
"""Seconds before a second attempt; doubled for each further one, drawn between half and all of it."""

LONGEST_PAUSE = 5.0

KEPT = 3.0
"""Seconds an idle connection is kept: the server closes it after five, and one that both let go of at once breaks."""

LONGEST_WAIT = 1.0
"""Seconds after which a request that waits for room looks whether there still is a replica at all."""


class VLLMEngine:
    """Replicas of one base with the run's adapters. `start` it before use and `close` it afterwards.

    probe: prompts of the canary. score: policy, or None for the base -> (K, V) the trainer's log-probs after them.
    save: (policy, folder) writes a policy's adapter. folder: where adapters and the servers' logs are put.
    main: whether this process feeds and restarts servers; the others of a launch only ask them.
    mark: tells this engine's adapters from those of earlier runs that the servers may still hold.
    hub: where servers that do not see `folder` get adapters from.
    """

    shares_weights = False

    def __init__(
        self,
        recipe: Recipe,
        stop_ids: frozenset[int],
        probe: Sequence[Sequence[int]],
        *,
        score: Callable[[str | None], np.ndarray],
        save: Callable[[str, Path], None],
        folder: Path,
        fleet: Fleet | None = None,
        urls: Sequence[str] = (),
        key: str | None = None,
        main: bool = True,
        mark: str,
        hub: Hub | None = None,
    ) -> None:
        self.settings, self.stop_ids, self._stop_list = recipe.engine, stop_ids, sorted(stop_ids)
        self.folder, self.fleet, self.main = folder, fleet, main
        self._score, self._save, self._mark = score, save, mark
        self.admin = Admin(key)
        self.balancer = Balancer(self.settings.balance)
        staleness = recipe.rollout.max_staleness
        keep = staleness + 1 if staleness else 0
        self.hub = hub
        self.feed = Feed(self.admin, probe, recipe.model.dtype, self.settings.canary, keep)
        if hub is not None:
            self.feed.removed = hub.withdraw
        self._asked: Counter[str] = Counter()
        self.feed.busy = lambda name: self._asked[name] > 0
        self.replicas: dict[str, Replica] = {}
        self.retries = 0
        self._lock = threading.Lock()
        self._error: EngineError | None = None
        self._clients: dict[asyncio.AbstractEventLoop, httpx.AsyncClient] = {}
        self._rng = random.Random(self._mark)
        self._none_since: float | None = None
        self._waiting: dict[str | None, deque[asyncio.Future[None]]] = defaultdict(deque)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._follow(list(urls))
        self.watch = Watch(
            self.settings,
            self.admin,
            fleet,
            replicas=lambda: list(self.replicas.values()),
            admit=self._admit,
            down=self._down,
            fatal=self._fatal,
            follow=self._follow,
        )

    # Life

    def start(self) -> None:
        """Wait until the servers are well: those of the launch all of them, of given addresses at least one."""
        wanted = len(self.replicas) if self.fleet is not None else 1
        deadline = self.fleet.launch.start_deadline if self.fleet is not None else self.settings.recover_deadline
        self.feed.publish(self._served(f"{FROZEN}{BASE}", 0, BASE, None), lambda: [])
        self.watch.start()
        until = time.monotonic() + deadline
        while sum(replica.up for replica in list(self.replicas.values())) < wanted:
            self._check()
            if time.monotonic() > until:
                raise EngineError(
                    f"engine: {wanted} replicas were to be well within {deadline:g} s: {self.states()}{self._logs()}"
                )
            time.sleep(0.05)

    def close(self) -> None:
        """Stop the watch and the servers of the launch; take our adapters back from servers that stay."""
        self.watch.stop()
        if self.fleet is not None:
            self.fleet.stop()
        elif self.main:
            self.feed.close([replica for replica in self.replicas.values() if replica.up])
        self.admin.close()
        if self.hub is not None:
            self.hub.close()

    def states(self) -> str:
        return "; ".join(map(str, list(self.replicas.values()))) or "there are none"

    # Adapters

    def publish(self, agent: str, version: int) -> None:
        """Write an agent's adapter as it is now and make it what speaks, on every server, proved by the canary."""
        self._check()
        name, folder = f"{agent}@{version}~{self._mark}", self.folder / f"{agent}@{version}"
        if self.main:
            self._save(agent, folder)
        self._publish(self._served(agent, version, name, folder))

    def prepare(self, policies: Sequence[str]) -> None:
        """Make live what else will be asked for: frozen adapters and earlier versions; and forget what will not be."""
        self._check()
        fixed = {policy for policy in policies if policy.startswith((FROZEN, "past:")) and policy != f"{FROZEN}{BASE}"}
        held = {policy for policy in self.feed.current if policy.startswith("past:")}
        for policy in sorted(held - fixed):
            self.feed.forget(policy, self._ups() if self.main else [])
        for policy in sorted(fixed - self.feed.current.keys()):
            name = f"fixed-{hashlib.sha256(policy.encode()).hexdigest()[:12]}"
            folder = self.folder / name
            if self.main:
                self._save(policy, folder)
            self._publish(self._served(policy, 0, f"{name}~{self._mark}", folder))

    def _publish(self, served: Served) -> None:
        if not self.main:
            self.feed.publish(served, lambda: [])
            return
        self.feed.publish(served, self._ups)
        self.watch.hurry()

    def _served(self, policy: str, version: int, name: str, folder: Path | None) -> Served:
        expected = self._score(None if policy == f"{FROZEN}{BASE}" else policy)
        place = None if folder is None else str(folder.resolve())
        if self.hub is not None and folder is not None:
            place = self.hub.offer(name, folder)
        return Served(policy, version, name, place, folder if self.main else None, np.asarray(expected, dtype=float))

    def _admit(self, replica: Replica) -> None:
        """A server that is well: give it what it must have, and take it in; nothing is published in between."""
        with self.feed.lock:
            if self.main:
                self.feed.restore(replica)
            elif missing := self.feed.missing(replica):
                raise Unwell(f"{missing} was not loaded yet")
            self._up(replica)

    # Requests

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        if len(requests) == 1:
            return [await self._complete(requests[0])]
        async with asyncio.TaskGroup() as tasks:
            made = [tasks.create_task(self._complete(request)) for request in requests]
        return [task.result() for task in made]

    async def _complete(self, request: Request) -> Completion:
        """One completion, from whichever replica gives it, in at most `retries` + 1 attempts."""
        failures: list[str] = []
        while True:
            replica = await self._choose(request)
            try:
                served = self.feed.current.get(request.policy)
                if served is None:
                    raise EngineError(f"engine: nothing was published for {request.policy!r}")
                completion = await self._ask(replica, served, request)
            except AdapterLost as error:
                self._down(replica, f"it has lost an adapter: {error}")
                failures.append(f"{replica.url}: {error}")
            except Unwell as error:
                replica.strikes += 1
                failures.append(f"{replica.url}: {error}")
            else:
                replica.strikes, replica.served = 0, replica.served + 1
                return completion
            finally:
                with self._lock:
                    self.balancer.end(replica.url)
                self._wake_one(replica.url)
            self.watch.hurry()
            self.retries += 1
            if len(failures) > self.settings.retries:
                raise EngineError(
                    f"engine: a request of {request.policy} failed {len(failures)} times (engine.retries "
                    f"{self.settings.retries}): {'; '.join(failures)}"
                )
            await asyncio.sleep(min(LONGEST_PAUSE, PAUSE * 2 ** len(failures)) * self._rng.uniform(0.5, 1))

    async def _ask(self, replica: Replica, served: Served, request: Request) -> Completion:
        body = request_body(served.name, request.prompt_ids, request.sampling, request.seed, self._stop_list)
        loop = asyncio.get_running_loop()
        limit = asyncio.timeout(self.settings.request_deadline)
        self._asked[served.name] += 1
        try:
            async with limit:
                replica.running[limit] = loop
                response = await self._client(loop).post(f"{replica.url}/v1/completions", content=body)
        except TimeoutError:
            if not replica.up:
                raise Unwell(f"it went down: {replica.reason}") from None
            raise Unwell(f"no answer within {self.settings.request_deadline:g} s (engine.request_deadline)") from None
        except httpx.HTTPError as error:
            if isinstance(error, httpx.ConnectError):
                self._down(replica, "it does not take connections")
            raise Unwell(f"{type(error).__name__} {error}".rstrip()) from None
        finally:
            replica.running.pop(limit, None)
            self._asked[served.name] -= 1
        check_status(response.status_code, response.content, "/v1/completions")
        size, most = len(request.prompt_ids), request.sampling.max_new_tokens
        return read_completion(response.content, size, most, self.stop_ids, served.version)

    async def _choose(self, request: Request) -> Replica:
        """A replica that is up and has room; waits for one, with a deadline on there being none at all."""
        episode = request.session.rpartition("/")[0] or request.session
        while True:
            self._check()
            with self._lock:
                url = self.balancer.pick(episode)
                if url is not None and len(self.replicas[url].running) < self.settings.concurrency:
                    self.balancer.begin(url)
                    self._none_since = None
                    return self.replicas[url]
                if url is None:
                    self._none_since = self._none_since or time.monotonic()
            if url is None and time.monotonic() - self._none_since > self.settings.recover_deadline:
                raise EngineError(
                    f"engine: no replica was well for {self.settings.recover_deadline:g} s (engine.recover_deadline): "
                    f"{self.states()}{self._logs()}"
                )
            await self._room(url)

    async def _room(self, url: str | None) -> None:
        """Wait until a request there has ended (None: until a replica has come back), first come, first served.

        A second at most, so that whoever waits sees when there is nothing left to wait for.
        """
        self._loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = self._loop.create_future()
        self._waiting[url].append(turn)
        timer = self._loop.call_later(LONGEST_WAIT, _wake, turn)
        try:
            await turn
        finally:
            timer.cancel()

    def _wake_one(self, url: str) -> None:
        waiting = self._waiting[url]
        while waiting:
            turn = waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return

    def _tell_all(self) -> None:
        """From any thread: something has changed, look again."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake_all)

    def _wake_all(self) -> None:
        for waiting in list(self._waiting.values()):
            while waiting:
                _wake(waiting.popleft())

    def end_sessions(self, start: str = "") -> None:
        with self._lock:
            self.balancer.clear(start)

    def _client(self, loop: asyncio.AbstractEventLoop) -> httpx.AsyncClient:
        """Connections belong to an event loop; those of a loop that is closed are gone with it."""
        client = self._clients.get(loop)
        if client is None:
            self._clients = {other: one for other, one in self._clients.items() if not other.is_closed()}
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=KEPT)
            client = httpx.AsyncClient(
                headers=self.admin.headers | {"Content-Type": "application/json"}, timeout=None, limits=limits
            )
            self._clients[loop] = client
        return client

    # What the watch finds

    def _ups(self) -> list[Replica]:
        return [replica for replica in list(self.replicas.values()) if replica.up]

    def _up(self, replica: Replica) -> None:
        with self._lock:
            if self.replicas.get(replica.url) is not replica:
                return
            replica.take_in()
            self.balancer.set_health(replica.url, True)
        self._tell_all()
        logger.info("engine: %s is up", replica.url)

    def _down(self, replica: Replica, why: str) -> None:
        with self._lock:
            was_up = replica.take_out(why)
            if replica.url in self.replicas:
                self.balancer.set_health(replica.url, False)
            running = list(replica.running.items())
        if was_up:
            logger.warning("engine: %s is taken out: %s; %d requests go elsewhere", replica.url, why, len(running))
        for limit, loop in running:
            loop.call_soon_threadsafe(_cut, limit)
        self._tell_all()

    def _fatal(self, error: EngineError) -> None:
        self._error = self._error or error

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _follow(self, urls: list[str]) -> None:
        """The replicas are now these: new ones come in through the watch, others are left."""
        admins = dict(zip(self.settings.urls, self.settings.admin_urls, strict=False))
        for url in urls:
            if url not in self.replicas:
                replica = Replica(url, admins.get(url, url))
                with self._lock:
                    self.balancer.add(url)
                    self.balancer.set_health(url, False)
                    self.replicas[url] = replica
        for url in [url for url in self.replicas if url not in urls]:
            replica = self.replicas[url]
            self._down(replica, "it is not listed any more")
            with self._lock:
                self.balancer.remove(url)
                del self.replicas[url]

    def _logs(self) -> str:
        if self.fleet is None:
            return ""
        return "".join(f"\nThe end of {server.log}:\n{server.tail()}" for server in self.fleet.servers[:1])


def _wake(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_result(None)


def _cut(limit: asyncio.Timeout) -> None:
    """End a request now, unless it has ended."""
    try:
        limit.reschedule(0.0)
    except RuntimeError:
        return


def server_urls(settings: object) -> tuple[list[str], str | None]:
    """The addresses and the key of servers that run already."""
    key = os.environ.get(settings.key_env) or None
    if settings.urls_file is not None:
        return urls_in(read_urls_file(settings.urls_file)), key
    return [url.rstrip("/") for url in settings.urls], key
