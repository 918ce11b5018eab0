"""A worker process: reads items, a line of JSON each, and answers each with a line. Started by `workers.py`.

It dies with its parent: the kernel sees to that even where the grader never comes back.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import resource
import signal
import sys
from typing import Any, TextIO

DEATH_SIGNAL = 1


def main() -> None:
    setup = json.loads(sys.argv[1])
    ctypes.CDLL(None).prctl(DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    if setup["own"]:
        os.dup2(2, 1)
    else:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    try:
        module, _, name = setup["job"].partition(":")
        grader = getattr(importlib.import_module(module), name)(**setup["settings"])
    except Exception as error:
        _say(answers, {"cause": f"error: {type(error).__name__}: {error}"})
        return
    if setup["memory"] is not None:
        most = setup["memory"] * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    _say(answers, {})
    for line in sys.stdin:
        _say(answers, _answer(grader, line))


def _answer(grader: Any, line: str) -> dict[str, Any]:
    """The grader's answer to an item, or why there is none: what it raises is data here, told and counted outside."""
    try:
        return {"value": grader(json.loads(line))}
    except MemoryError:
        return {"cause": "memory: more than it may have"}
    except Exception as error:
        return {"cause": f"error: {type(error).__name__}: {error}"[:500]}


def _say(answers: TextIO, answer: dict[str, Any]) -> None:
    try:
        text = json.dumps(answer)
    except (TypeError, ValueError) as error:
        text = json.dumps({"cause": f"error: the answer is no JSON value: {error}"[:500]})
    answers.write(text + "\n")
    answers.flush()


if __name__ == "__main__":
    main()
