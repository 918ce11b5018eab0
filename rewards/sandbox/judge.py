"""What code is worth: its functions against tests, or its output against the one wanted.

Neither tells the code what is right. Tests run in a sandbox of their own and call the code in another; outputs are
compared out here. So code cannot pass by what it prints, by leaving early, or by laying hands on the tests.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from marft.rewards.sandbox import PROBE, How, Limits, run, start

_HERE = Path(__file__).parent
LONGEST = 200_000
"""Characters of a text's end in which code is looked for."""
LANGUAGES = ("", "py", "python", "python3")


@dataclass(frozen=True)
class Judged:
    """passed: per test. cause: None, or why some could not be brought to an end: "timeout", "output"."""

    passed: tuple[bool, ...]
    cause: str | None = None


def code_of(text: str) -> str:
    """The last closed fenced block of Python, or of no language, in a text; without one the whole text."""
    found, block, kind = None, None, ""
    for line in text[-LONGEST:].split("\n"):
        mark = line.strip()
        if block is None and mark.startswith("```"):
            block, kind = [], mark.strip("`").strip().lower()
        elif block is not None and mark == "```":
            found = "\n".join(block) if kind in LANGUAGES else found
            block = None
        elif block is not None:
            block.append(line)
    return text[-LONGEST:] if found is None else found


def by_tests(code: str, tests: Sequence[str], limits: Limits, *, how: How) -> Judged:
    """Each test is a program in which the functions of `code` can be called; it passes where it raises nothing.

    Arguments and results must be plain values: numbers, texts, bytes, None, and lists, tuples, sets and dicts of them.
    Raises SandboxError where there is no sandbox.
    """
    wire = (_HERE / "wire.py").read_text(encoding="utf-8")
    solver = {"main.py": (_HERE / "solver.py").read_text(encoding="utf-8"), "wire.py": wire, "code.py": code}
    tester = {"main.py": (_HERE / "tester.py").read_text(encoding="utf-8"), "wire.py": wire}
    tester["tests.json"] = json.dumps(list(tests))
    call, reply = os.pipe(), os.pipe()
    with contextlib.ExitStack() as open_cells:
        try:
            first = start(how, solver, limits, stdin=call[0], stdout=reply[1], stderr=subprocess.DEVNULL)
            open_cells.callback(first.close)
            second = start(how, tester, limits, stdin=reply[0], stdout=call[1], stderr=subprocess.PIPE)
            open_cells.callback(second.close)
        finally:
            for end in (*call, *reply):
                os.close(end)
        for cell in (first, second):
            cell.started(PROBE)
        return _collect(second.process, len(tests), limits)


def _collect(process: subprocess.Popen, count: int, limits: Limits) -> Judged:
    """Results line by line, until the tester ends or the deadline."""
    deadline, said, cause = time.monotonic() + limits.seconds, b"", None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stderr, selectors.EVENT_READ)
        while True:
            ready = selector.select(max(0.0, deadline - time.monotonic()))
            if not ready:
                cause = "timeout"
                break
            data = os.read(process.stderr.fileno(), 65536)
            said += data
            if not data:
                break
    passed = [False] * count
    for line in said.splitlines():
        with contextlib.suppress(ValueError, TypeError, IndexError):  # the tester died in the middle of a line
            number, why = json.loads(line)
            passed[number] = why is None
    return Judged(tuple(passed), cause)


def by_output(code: str, tests: Sequence[Mapping[str, str]], limits: Limits, *, how: How) -> Judged:
    """Each test is {"input": standard input, "output": what the program must print}, spaces at line ends aside.

    All tests together have the time of `limits`.
    """
    until, passed, cause = time.monotonic() + limits.seconds, [], None
    for test in tests:
        left = until - time.monotonic()
        if left <= 0:
            passed.append(False)
            cause = "timeout"
            continue
        ran = run({"main.py": code}, test["input"], replace(limits, seconds=left), how=how)
        cause = cause if ran.ended == "done" else ran.ended
        passed.append(ran.ended == "done" and ran.code == 0 and _lines(ran.out) == _lines(test["output"]))
    return Judged(tuple(passed), cause)


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.strip().split("\n")]
