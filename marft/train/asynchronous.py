"""Play that goes on in a thread of its own while the trainer works.

The thread runs one event loop for the whole run, and what play changes is touched there alone; the trainer's thread
hands coroutines over and waits for them, never without a deadline. What the bound on staleness asks stands in
`marft.train.window`. With `rollout.max_staleness` 0 nothing is played ahead, and an update's groups can still be had
one by one as they end, which is what `rollout.pipeline` does.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
import time
from collections.abc import Coroutine, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from marft.config import Recipe
from marft.episode import Episode
from marft.errors import EngineError, RecipeError
from marft.rollout import Plan, Rollout, drawable, plan_group
from marft.train.source import Source, Supply
from marft.train.window import Group, Window, whole
from marft.train.workers import Workers

logger = logging.getLogger("marft")
Found = TypeVar("Found")
GRACE = 60.0
"""Seconds beyond a deadline after which the thread itself is taken to hang."""
STOPPING = 10.0
"""Seconds that the thread gets to stop."""


class Asynchronous(Source):
    """Groups are played ahead of the trainer as far as `rollout.max_staleness` allows."""

    def __init__(self, recipe: Recipe, rollout: Rollout, workers: Workers) -> None:
        self.recipe, self.rollout, self.workers = recipe, rollout, workers
        self.deadline = recipe.rollout.deadline
        if recipe.rollout.max_staleness and rollout.model.shares_weights:
            raise RecipeError(
                f"rollout.max_staleness is {recipe.rollout.max_staleness}, but the engine of kind {recipe.engine.kind} "
                "computes with the weights that the trainer changes; set it 0, or let the engine play apart"
            )
        self.groups = len(self._mine(range(recipe.rollout.groups)))
        self._thread: threading.Thread | None = None
        self._loop = asyncio.new_event_loop()
        self._playing: dict[int, Sequence[Plan]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._error: BaseException | None = None
        self.restore(0, {})

    # The trainer's thread

    def take(self, update: int, versions: Mapping[str, int]) -> Supply:
        """The first groups that are ready and not too old; waits for them."""
        began = time.perf_counter()
        self._prepare(versions)
        taken = self._call(self._take(update, dict(versions), self.groups))
        ages = [group.staleness(versions) for group in taken.groups]
        own = (time.perf_counter() - began, taken.still, taken.queue, taken.dropped, ages)
        return Supply(self._placed(taken.groups, update), _joined(self.workers.gather([own])))

    def stream(self, update: int, versions: Mapping[str, int]) -> Iterator[list[Episode]]:
        """The same groups, some at a time, as they end."""
        self._prepare(versions)
        left = self.groups
        while left:
            taken = self._call(self._take(update, dict(versions), left, enough=1))
            left -= len(taken.groups)
            yield self._placed(taken.groups, update)

    def _prepare(self, versions: Mapping[str, int]) -> None:
        """The engine keeps what still plays, in any process, and gets what may be drawn from now on."""
        playing = self.workers.gather([self.in_use()])
        self.rollout.model.prepare(sorted(drawable(self.recipe, versions).union(*playing)))
        self.workers.wait()

    def in_use(self) -> set[str]:
        return {policy for plans in list(self._playing.values()) for policy in plans[0].team.values()}

    def state(self) -> dict[str, Any]:
        """`next`: the first ticket that no process has come to. open: those before it that are to be played again."""
        mine = self._call(self._open())
        everyone = self.workers.gather([mine])
        reached = [own for own, _ in everyone]
        # a process that is behind still has tickets of its own to start below the last one
        unstarted = [n for n in range(min(reached), max(reached)) if n >= reached[self._group(n) % self.workers.size]]
        return {"next": max(reached), "open": sorted([*unstarted, *(n for _, own in everyone for n in own)])}

    def restore(self, update: int, state: Mapping[str, Any]) -> None:
        """Groups that were in play or waited are played again; what was taken or dropped never is."""
        self._next = state.get("next", update * self.recipe.rollout.groups)
        self._again = self._mine(state.get("open", ()))
        tickets = self._tickets()
        settings = self.recipe.rollout.max_staleness, self.recipe.train.updates
        self.window = Window(self.groups, *settings, tickets, update)
        self._gauge = _Gauge(self.groups)
        self._news = asyncio.Event()

    def close(self) -> None:
        if self._thread is None:
            self._loop.close()
        if self._loop.is_closed():
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(STOPPING)
        if self._thread.is_alive():
            logger.warning("rollout: its thread has not stopped after %g s; it ends with the process", STOPPING)

    def _call(self, work: Coroutine[Any, Any, Found]) -> Found:
        """Run it on the thread's loop and wait for it."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="marft-rollout", daemon=True)
            self._thread.start()
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(self.deadline + GRACE)
        except TimeoutError:
            future.cancel()
            raise EngineError(
                f"rollout: its thread did not answer within {self.deadline + GRACE:g} s; a game or the engine hangs"
            ) from None

    def _placed(self, groups: Iterable[Group], update: int) -> list[Episode]:
        """Their episodes, in the order of the tickets, told the update they serve and their group's place in it."""
        places = itertools.count() if self.recipe.rollout.max_staleness else None
        played = []
        for group in sorted(groups, key=lambda group: group.ticket):
            place = self._group(group.ticket)
            if places is not None:  # groups planned for different updates meet here, under the same number perhaps
                place = self.workers.rank + next(places) * self.workers.size
            for episode in group.episodes:
                episode.update, episode.group = update, place
            played.extend(group.episodes)
        return played

    # Tickets: number n stands for group n modulo the groups of an update, as it would be planned for update n over them

    def _group(self, ticket: int) -> int:
        return ticket % self.recipe.rollout.groups

    def _mine(self, tickets: Iterable[int]) -> list[int]:
        tickets = list(tickets)
        return self.workers.mine(tickets, [self._group(ticket) for ticket in tickets])

    def _tickets(self) -> Iterator[int]:
        while self._again:
            yield self._again.pop(0)
        while True:
            self._next += 1
            if self._mine([self._next - 1]):
                yield self._next - 1

    # The rollout's thread

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            left = asyncio.all_tasks(self._loop)
            for task in left:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        finally:
            self._loop.close()

    async def _open(self) -> tuple[int, list[int]]:
        return self._next, [*self._again, *self.window.open]

    async def _take(self, update: int, versions: dict[str, int], most: int, enough: int | None = None) -> _Taken:
        """At most `most` groups, at least `enough` (all of them where it is not said), in the order they ended in."""
        window, enough = self.window, most if enough is None else enough
        window.update, dropped = update, 0
        try:
            async with asyncio.timeout(self.deadline):
                while True:
                    self._news = asyncio.Event()
                    if self._error is not None:
                        raise self._error
                    dropped += window.drop_stale(versions)
                    self._admit(update, versions)
                    if len(window.ready) >= enough:
                        groups = window.take(most)
                        return _Taken(groups, self._gauge.read(), len(window.ready), dropped)
                    await self._news.wait()
        except TimeoutError:
            raise EngineError(
                f"rollout: update {update} waited {self.deadline:g} s for {enough} groups; {len(window.ready)} were "
                f"ready and {len(window.playing)} in play; raise rollout.deadline or play fewer episodes"
            ) from None

    def _admit(self, update: int, versions: Mapping[str, int]) -> None:
        for ticket in self.window.admit():
            plans = plan_group(self.recipe, ticket // self.recipe.rollout.groups, self._group(ticket), versions)
            self._playing[ticket] = plans
            task = self._loop.create_task(self._play(ticket, plans))
            self._tasks.add(task)  # the loop itself would let go of it
            task.add_done_callback(self._tasks.discard)
        self._note()

    def _note(self) -> None:
        self._gauge.note(self.groups if self.window.exhausted else len(self._playing))

    async def _play(self, ticket: int, plans: Sequence[Plan]) -> None:
        try:
            episodes = await self.rollout.play(plans, sessions=plans[0].group_name)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # raised again where the trainer waits
            self._error = self._error or error
        else:
            self.window.finish(whole(ticket, episodes))
        finally:
            del self._playing[ticket]
            self._note()
            self._news.set()


class _Taken(NamedTuple):
    """Groups; how long play stood still before, in seconds; how many groups are left that are ready; how many episodes
    were dropped."""

    groups: list[Group]
    still: float
    queue: int
    dropped: int


class _Gauge:
    """Seconds in which an update's worth of groups could have been in play and was not, since the bound did not allow
    it; where only some were missing, their share of the time."""

    def __init__(self, groups: int) -> None:
        self.groups = self.playing = groups
        self._still, self._since = 0.0, time.perf_counter()

    def note(self, playing: int) -> None:
        """From now on this many groups are in play."""
        now = time.perf_counter()
        if self.playing < self.groups:
            self._still += (now - self._since) * (1 - self.playing / self.groups)
        self.playing, self._since = playing, now

    def read(self) -> float:
        """What has come together since it was read last."""
        still, self._still = self._still, 0.0
        return still


def _joined(everyone: Sequence[tuple[float, float, int, int, list[int]]]) -> dict[str, float]:
    """The gauges of all processes: the longest wait, means of back-pressure and age, sums of counts."""
    waits, stills, ready, dropped, ages = zip(*everyone, strict=True)
    every = [age for own in ages for age in own]
    return {
        "async/wait": max(waits),
        "async/back_pressure": sum(stills) / len(stills),
        "async/queue": float(sum(ready)),
        "async/staleness_mean": sum(every) / len(every),
        "async/staleness_max": float(max(every)),
        "episodes/dropped": float(sum(dropped)),
    }
