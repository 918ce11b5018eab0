"""Running code that nobody has read: alone, without network, secrets or a way out, and for a bounded time.

A program runs in bubblewrap where that is installed, else in user namespaces of its own (`jail.py`): an empty file
system but for Python, read-only, and a `/tmp` in memory; no network, no other process in sight, an empty environment;
limits on memory, processor time, processes, files and output. At the deadline everything in it is killed, by the end of
its process namespace. Where neither way works, `start` refuses, unless it is told to do without.

Who starts a `Cell` owns it until `close`, which leaves nothing running and no file behind.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

JAIL = Path(__file__).with_name("jail.py")
MIB = 2**20
PROBE = 20.0
"""Seconds that the first trial of a way may take."""
LAST = 5.0
"""Seconds that the kernel may take to end a sandbox before all is killed that can be named."""
_INIT = re.compile(rb'(?:init |"child-pid": )(\d+)')
_STARTED = re.compile(rb"^ok(?=init |\{|$)", re.MULTILINE)
"""That the walls stand. Two processes write to the descriptor: on a busy machine this may come before the number."""
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc/ld.so.cache")
"""What programs need to start; of these, what there is."""

How = Literal["bwrap", "namespaces", "none"]


class SandboxError(RuntimeError):
    """There is no sandbox here, or it could not be built."""


@dataclass(frozen=True)
class Limits:
    """Of one program and all that it starts; memory and processor time are those of each of its processes.

    seconds: wall time, after which it is killed. memory, disk (of its /tmp, in memory too), file: MiB. output: KiB.
    """

    seconds: float = 10.0
    memory: int = 512
    processes: int = 16
    disk: int = 32
    file: int = 16
    files: int = 64
    output: int = 256

    def resources(self) -> dict[str, int]:
        """For setrlimit, by name."""
        return {
            "AS": self.memory * MIB,
            "CPU": int(self.seconds) + 1,
            "NPROC": self.processes,
            "FSIZE": self.file * MIB,
            "NOFILE": self.files,
            "CORE": 0,
        }


@dataclass(frozen=True)
class Ran:
    """What became of a program. ended: "done", "timeout", or "output" where it wrote more than it may.

    code: its exit status, 128 + n (or 256 - n) after signal n; None where it was killed from here.
    """

    ended: Literal["done", "timeout", "output"]
    code: int | None
    out: str
    err: str


class Cell:
    """One program in its sandbox. `process` has the pipes; `started` waits until the program runs."""

    def __init__(self, process: subprocess.Popen, status: int, folder: Path) -> None:
        self.process, self._status, self._folder = process, status, folder
        self._init: int | None = None

    def started(self, seconds: float) -> None:
        """Raise SandboxError where the walls could not be built."""
        said, deadline = b"", time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self._status, selectors.EVENT_READ)
            while not (_STARTED.search(said) and _INIT.search(said)):
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise SandboxError(f"sandbox: not built within {seconds:g} s")
                data = os.read(self._status, 4000)
                if not data and _STARTED.search(said):  # without walls there is no number
                    break
                if not data:
                    text = said.decode("utf-8", "replace") or "ended before the program started"
                    raise SandboxError(f"sandbox: {text}")
                said += data
        found = _INIT.search(said)
        self._init = int(found[1]) if found else None

    def close(self) -> None:
        """Kill whatever is left, and return when it is gone.

        With its first process the kernel ends everything in a process namespace, and lets nobody know before it has.
        """
        if self.process.poll() is None and self._init is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._init, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(LAST)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        os.close(self._status)
        shutil.rmtree(self._folder, ignore_errors=True)


def way(unsandboxed: bool = False) -> How:
    """The way that works here. Raises SandboxError, with what was tried, where none does; unsandboxed: "none" then.

    bubblewrap comes first, but for root: it would leave the program root, whom no limit on processes binds.
    """
    found, tried = _best()
    if found is not None:
        return found
    if unsandboxed:
        return "none"
    raise SandboxError(
        "code is run in a sandbox only, and there is none here; install bubblewrap, allow user namespaces, or set the "
        f"reward's option unsandboxed: true to run it with your own rights ({tried})"
    )


@functools.cache
def _best() -> tuple[How | None, str]:
    """The first way that runs a program, and why the others do not."""
    ways: list[How] = ["namespaces", "bwrap"] if os.getuid() == 0 else ["bwrap", "namespaces"]
    tried = []
    for how in ways:
        try:
            ran = run({"main.py": "print(6 * 7)"}, "", Limits(seconds=PROBE), how=how)
        except SandboxError as error:
            tried.append(f"{how}: {error}")
            continue
        if ran.out.strip() == "42":
            return how, ""
        tried.append(f"{how}: {ran.ended}, {ran.err.strip()[-200:]!r}")
    return None, "; ".join(tried)


def run(files: Mapping[str, str], stdin: str = "", limits: Limits | None = None, *, how: How | None = None) -> Ran:
    """Run `main.py` of `files` to its end or its deadline, with this standard input. how: None, the `way` here."""
    pipe, limits = subprocess.PIPE, limits or Limits()
    cell = start(how or way(), files, limits, stdin=pipe, stdout=pipe, stderr=pipe)
    try:
        cell.started(PROBE)
        deadline = time.monotonic() + limits.seconds
        return _listen(cell.process, stdin.encode("utf-8", "replace"), limits, deadline)
    finally:
        cell.close()


def start(how: How, files: Mapping[str, str], limits: Limits, arguments: tuple[str, ...] = (), **pipes: Any) -> Cell:
    """A cell whose program is `main.py` of `files`. pipes: stdin, stdout and stderr, as for Popen."""
    if how == "bwrap" and shutil.which("bwrap") is None:
        raise SandboxError("not installed")
    folder = Path(tempfile.mkdtemp(prefix="cell-"))
    try:
        folder.chmod(0o755)
        (folder / "in").mkdir()
        for name, text in {**files, "jail.py": JAIL.read_text(encoding="utf-8")}.items():
            (folder / "in" / name).write_text(text, encoding="utf-8", errors="replace")
        if how == "none":
            (folder / "tmp").mkdir()
        heard, told = os.pipe()
        info = os.dup(told)  # bubblewrap closes the one that it writes to
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise SandboxError(f"cannot prepare a folder: {error}") from None
    settings = _settings(how, folder, limits, told, arguments)
    argv = [_python(), "-I", "-S", str(JAIL), json.dumps(settings)]
    if how == "bwrap":
        argv = [*_bubblewrap(settings, info), _python(), "-I", "-S", "/in/jail.py", json.dumps(settings)]
    try:
        process = subprocess.Popen(argv, env={}, start_new_session=True, pass_fds=(told, info), cwd="/", **pipes)
    except OSError as error:
        os.close(heard)
        shutil.rmtree(folder, ignore_errors=True)
        raise SandboxError(f"cannot start: {error}") from None
    finally:
        os.close(told)
        os.close(info)
    return Cell(process, heard, folder)


def _listen(process: subprocess.Popen, stdin: bytes, limits: Limits, deadline: float) -> Ran:
    """Write the input and read the outputs until they end, the deadline passes, or there is too much of them."""
    said = {process.stdout: bytearray(), process.stderr: bytearray()}

    def ran(ended: Literal["done", "timeout", "output"], code: int | None = None) -> Ran:
        most = limits.output * 1024
        return Ran(ended, code, *(bytes(text[:most]).decode("utf-8", "replace") for text in said.values()))

    os.set_blocking(process.stdin.fileno(), False)
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdin, selectors.EVENT_WRITE)
        for stream in said:
            selector.register(stream, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(max(0.0, deadline - time.monotonic()))
            if time.monotonic() >= deadline:
                return ran("timeout")
            for key, _ in ready:
                stream = key.fileobj
                if stream is process.stdin:
                    stdin = _fed(process, stdin)
                    if not stdin:
                        selector.unregister(stream)
                    continue
                data = os.read(stream.fileno(), 65536)
                if not data:
                    selector.unregister(stream)
                said[stream] += data
                if len(said[stream]) > limits.output * 1024:
                    return ran("output")
    try:
        return ran("done", process.wait(max(0.0, deadline - time.monotonic())))
    except subprocess.TimeoutExpired:
        return ran("timeout")


def _fed(process: subprocess.Popen, stdin: bytes) -> bytes:
    """What is left to write; nothing where the program does not listen any more."""
    try:
        stdin = stdin[os.write(process.stdin.fileno(), stdin[:65536]) :] if stdin else stdin
    except BrokenPipeError:
        stdin = b""
    if not stdin:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
    return stdin


def _python() -> str:
    """The interpreter itself: a virtual environment's link to it would bring its packages along."""
    return os.path.realpath(sys.executable)


def _settings(how: How, folder: Path, limits: Limits, status: int, arguments: tuple[str, ...]) -> dict[str, Any]:
    inputs = folder / "in" if how == "none" else Path("/in")
    links = {path: os.readlink(path) for path in SYSTEM if os.path.islink(path)}
    real = [path for path in SYSTEM if os.path.exists(path) and path not in links]
    prefix = os.path.realpath(sys.base_prefix)
    if not any(prefix == path or prefix.startswith(f"{path}/") for path in real):
        real.append(prefix)
    return {
        "how": "namespaces" if how == "namespaces" else "inside",
        "argv": [_python(), "-I", "-S", str(inputs / "main.py"), *arguments],
        "environment": {"PATH": "/usr/bin:/bin", "HOME": "/tmp", "LANG": "C.UTF-8", "PYTHONIOENCODING": "utf-8"},
        "folder": str(folder / "tmp") if how == "none" else "/tmp",
        "inputs": str(folder / "in"),
        "binds": real,
        "links": links,
        "limits": limits.resources(),
        "tmp": limits.disk * MIB,
        "status": status,
    }


def _bubblewrap(settings: Mapping[str, Any], status: int) -> list[str]:
    shown = [part for path in settings["binds"] for part in ("--ro-bind", path, path)]
    links = [part for path, target in settings["links"].items() for part in ("--symlink", target, path)]
    walls = ["--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--hostname", "sandbox"]
    places = [
        "--dev",
        "/dev",
        "--size",
        str(settings["tmp"]),
        "--tmpfs",
        "/tmp",
        "--ro-bind",
        settings["inputs"],
        "/in",
    ]
    closed = ["--remount-ro", "/dev", "--remount-ro", "/", "--info-fd", str(status)]
    return [shutil.which("bwrap"), *walls, *shown, *links, *places, *closed]
