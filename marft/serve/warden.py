"""Runs one command and makes sure that nothing of it outlives whoever started it.

    python warden.py COMMAND...     with the reading end of a pipe as standard input

The pipe's writing end belongs to the parent: when that closes it, or dies by whatever, even kill -9, reading ends and
the warden stops the command and all its descendants. It adopts orphaned grandchildren (a "subreaper"), so none escapes
by outliving its own parent. Standard library only, started as a file: it shall cost nothing and depend on nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time

GRACE = 10.0
"""Seconds between asking and killing."""

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


def main(command: list[str]) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0),
    )
    threading.Thread(target=_wait_for_parent, args=(stop,), daemon=True).start()
    while child.poll() is None and not stop.wait(0.1):
        pass
    end(GRACE if child.poll() is None else 0.0, child)
    return child.returncode if child.returncode is not None else -signal.SIGKILL


def _wait_for_parent(stop: threading.Event) -> None:
    while os.read(0, 1):
        pass
    stop.set()


def end(grace: float, child: subprocess.Popen) -> None:
    """Ask all descendants to end, then kill what is left; also those that appear meanwhile."""
    if grace:
        for pid in descendants(os.getpid()):
            send(pid, signal.SIGTERM)
            send(pid, signal.SIGCONT)  # one that was stopped cannot hear it
        until = time.monotonic() + grace
        while time.monotonic() < until and descendants(os.getpid()):
            _reap(child)
            time.sleep(0.05)
    while found := descendants(os.getpid()):
        for pid in found:
            send(pid, signal.SIGKILL)
        _reap(child)
        time.sleep(0.01)


def descendants(root: int) -> list[int]:
    """All living processes below `root`."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        with contextlib.suppress(OSError), open(f"/proc/{name}/stat", encoding="latin-1") as file:
            state, parent = file.read().rpartition(")")[2].split()[:2]
            if state != "Z":
                children.setdefault(int(parent), []).append(int(name))
    found, new = [], [root]
    while new:
        new = [pid for parent in new for pid in children.get(parent, ())]
        found += new
    return found


def send(pid: int, number: int) -> None:
    """A signal to a process that may be gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _reap(child: subprocess.Popen) -> None:
    """Collect the dead, the child itself through Popen, so that its exit status is known."""
    child.poll()
    with contextlib.suppress(ChildProcessError):
        while (found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
            if found.si_pid == child.pid:
                child.poll()
                return
            os.waitpid(found.si_pid, 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
