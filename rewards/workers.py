"""Graders in processes of their own, kept warm: an item that hangs costs its process, and nothing more.

A grader may take seconds over a power tower, eat all memory, or never come back, and nothing inside a process can be
trusted to stop it. So items go to workers (`worker.py`), each the leader of a process group, and the parent's clock
decides: at an item's deadline the group is killed, the item gets a verdict of its own, and a new worker takes over what
is left. A verdict has a value, or else a cause: "timeout", "crash", "memory", "output" or "error".

Whoever makes `Workers` owns the processes until `close`; those of `workers_of` are shared and end with this process.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import math
import os
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

START = 120.0
"""Seconds that a worker may take to start: it imports what it grades with."""
CHUNK = 32
"""Items that are on their way to a worker at most, so that it need not wait for the parent after each."""
LONGEST = 2**22
"""Bytes of one answer."""
HARMLESS = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "PYTHONPATH", "LD_LIBRARY_PATH", "SYSTEMROOT", "VIRTUAL_ENV")
"""Variables that a grader gets to see: it reads texts that nobody has checked, and needs no keys."""


@dataclass(frozen=True)
class Verdict:
    """What became of an item. value: the grader's answer. cause: why there is none, beginning with its kind."""

    value: Any = None
    cause: str | None = None


@dataclass(slots=True)
class _Worker:
    """A process, what it has been given and not answered, and what is on its way to it and from it."""

    process: subprocess.Popen
    due: float
    ready: bool = False
    items: deque[int] = field(default_factory=deque)
    outgoing: bytes = b""
    incoming: bytearray = field(default_factory=bytearray)


class Workers:
    """Processes that answer items by one job.

    job: "module:function"; called in each worker with `settings` it gives the grader, (item) -> answer, both JSON
    values. deadline: seconds of wall time for one item. memory: MiB of address space of a worker, None: no limit.
    own: the code is the user's: it sees the whole environment and may print.
    """

    def __init__(
        self,
        job: str,
        settings: Mapping[str, Any] | None = None,
        *,
        deadline: float = 5.0,
        memory: int | None = 2048,
        count: int | None = None,
        own: bool = False,
    ) -> None:
        self.deadline = deadline
        self.count = count or min(8, len(os.sched_getaffinity(0)))
        self._setup = json.dumps({"job": job, "settings": dict(settings or {}), "memory": memory, "own": own})
        self._own = own
        self._workers: list[_Worker] = []

    def run(self, items: Sequence[Any]) -> list[Verdict]:
        """A verdict for each item, in their order. Raises RuntimeError where a worker does not start."""
        found: list[Verdict | None] = [None] * len(items)
        pending = deque(range(len(items)))
        try:
            self._tidy()
            while pending or None in found:
                self._fill(items, pending)
                self._wait(found, pending)
        except BaseException:
            self.close()  # what is on its way belongs to this call
            raise
        return found

    def close(self) -> None:
        """End all processes."""
        for worker in self._workers:
            _kill(worker)
        self._workers = []

    def _tidy(self) -> None:
        """Away with those that died since the last call."""
        for worker in [worker for worker in self._workers if worker.process.poll() is not None]:
            self._lose(worker)

    def _lose(self, worker: _Worker) -> None:
        _kill(worker)
        self._workers.remove(worker)

    def _fill(self, items: Sequence[Any], pending: deque[int]) -> None:
        """Start workers where there is work for more, and hand out items."""
        idle = sum(not worker.items for worker in self._workers)
        for _ in range(min(self.count - len(self._workers), len(pending) - idle)):
            self._workers.append(self._start())
        share = max(1, min(CHUNK, math.ceil(len(pending) / (2 * self.count))))
        for worker in self._workers:
            if worker.ready and not worker.items and pending:
                worker.items.extend(pending.popleft() for _ in range(min(share, len(pending))))
                worker.outgoing += "".join(json.dumps(items[number]) + "\n" for number in worker.items).encode()
                worker.due = time.monotonic() + self.deadline

    def _start(self) -> _Worker:
        process = subprocess.Popen(
            [sys.executable, "-m", "marft.rewards.worker", self._setup],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if self._own else subprocess.DEVNULL,
            env=None if self._own else {name: os.environ[name] for name in HARMLESS if name in os.environ},
            start_new_session=True,
        )
        os.set_blocking(process.stdin.fileno(), False)
        return _Worker(process, time.monotonic() + START)

    def _wait(self, found: list[Verdict | None], pending: deque[int]) -> None:
        """Until something happens: answers, a worker's end, room to write, a deadline."""
        busy = [worker for worker in self._workers if worker.items or not worker.ready]
        if not busy:
            return
        with selectors.DefaultSelector() as selector:
            for worker in busy:
                selector.register(worker.process.stdout, selectors.EVENT_READ, worker)
                if worker.outgoing:
                    selector.register(worker.process.stdin, selectors.EVENT_WRITE, worker)
            ready = selector.select(max(0.0, min(worker.due for worker in busy) - time.monotonic()))
        for key, _ in ready:
            worker = key.data
            if worker not in self._workers:
                continue
            if key.fileobj is worker.process.stdin:
                with contextlib.suppress(BrokenPipeError):  # its end is seen where it is read
                    worker.outgoing = worker.outgoing[os.write(key.fd, worker.outgoing[:65536]) :]
            else:
                self._hear(worker, os.read(key.fd, 65536), found, pending)
        for worker in [worker for worker in busy if worker in self._workers and time.monotonic() >= worker.due]:
            if worker.ready and not worker.items:
                continue
            self._end(worker, f"timeout: not done in {self.deadline:g} s", found, pending)

    def _hear(self, worker: _Worker, data: bytes, found: list[Verdict | None], pending: deque[int]) -> None:
        if not data:
            code = worker.process.wait()
            how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
            self._end(worker, f"crash: the process ended by {how}", found, pending)
            return
        worker.incoming += data
        while (stop := worker.incoming.find(b"\n")) >= 0:
            line = bytes(worker.incoming[:stop])
            del worker.incoming[: stop + 1]
            answer = json.loads(line)
            if not worker.ready:
                if answer.get("cause"):
                    raise RuntimeError(f"a worker could not start: {answer['cause']}")
                worker.ready = True
            else:
                found[worker.items.popleft()] = Verdict(answer.get("value"), answer.get("cause"))
                worker.due = time.monotonic() + self.deadline
        if len(worker.incoming) > LONGEST:
            self._end(worker, f"output: an answer of more than {LONGEST} bytes", found, pending)

    def _end(self, worker: _Worker, cause: str, found: list[Verdict | None], pending: deque[int]) -> None:
        """A worker's end, by its own doing or for it: the item it had is judged so, the others go to another one."""
        if not worker.ready:
            raise RuntimeError(f"a worker did not start within {START:g} s ({cause})")
        if worker.items:
            found[worker.items.popleft()] = Verdict(None, cause)
            pending.extendleft(reversed(worker.items))
        self._lose(worker)


def _kill(worker: _Worker) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(worker.process.pid, signal.SIGKILL)
    worker.process.wait()
    for pipe in (worker.process.stdin, worker.process.stdout):
        with contextlib.suppress(BrokenPipeError):
            pipe.close()


_shared: dict[tuple[int, str], Workers] = {}


def workers_of(job: str, settings: Mapping[str, Any] | None = None, **limits: Any) -> Workers:
    """The workers of this process for a job with these settings and limits; made once, and kept."""
    key = (os.getpid(), json.dumps([job, dict(settings or {}), limits], sort_keys=True))
    if key not in _shared:
        _shared[key] = Workers(job, settings, **limits)
        atexit.register(_shared[key].close)
    return _shared[key]
