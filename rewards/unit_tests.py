"""Code in a text against tests, in a sandbox."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from marft.rewards.grading import Case, batch_reward, fact
from marft.rewards.sandbox import How, Limits, SandboxError, way
from marft.rewards.sandbox.judge import Judged, by_output, by_tests, code_of
from marft.rewards.workers import Verdict


@batch_reward
def unit_tests(
    cases: Sequence[Case],
    tests: str = "tests",
    partial: bool = False,
    join: bool = False,
    deadline: float = 10.0,
    memory: int = 512,
    processes: int = 16,
    unsandboxed: bool = False,
) -> list[Verdict]:
    """1 where the code of a text passes all tests, else 0; the code is the last fenced block, or the whole text.

    tests: the column that holds them: a list of programs that call the code's functions and raise where these are wrong
    (`assert f(2) == 4`), or one such program; or a list of {input, output} for code that reads and prints. partial: the
    share of the tests instead. join: the code of all texts read in an episode is one program, in the order of the
    seats. deadline: seconds of wall time for all tests of a text. memory: MiB of each process. processes: that code may
    have at once. unsandboxed: run it with your own rights where there is no sandbox. Code that was stopped at the
    deadline or for its output has failed the tests it did not finish, and is counted as well.
    """
    how = way(unsandboxed)  # before any text, so that nobody waits to learn that there is none
    limits = Limits(seconds=deadline, memory=memory, processes=processes)
    jobs: dict[Any, list[int]] = {}
    for number, case in enumerate(cases):
        jobs.setdefault(id(case.episode) if join else number, []).append(number)
    programs = ["\n\n".join(code_of(cases[number].turn.text) for number in numbers) for numbers in jobs.values()]
    wanted = [_tests(fact(cases[numbers[0]].episode, tests), tests) for numbers in jobs.values()]
    with ThreadPoolExecutor(min(8, len(os.sched_getaffinity(0)))) as threads:
        verdicts = list(threads.map(lambda *one: _verdict(*one, limits, partial, how), programs, wanted))
    found = [Verdict(0.0)] * len(cases)
    for numbers, verdict in zip(jobs.values(), verdicts, strict=True):
        for number in numbers:
            found[number] = verdict
    return found


def _verdict(code: str, tests: list[Any], limits: Limits, partial: bool, how: How) -> Verdict:
    judge = by_tests if isinstance(tests[0], str) else by_output
    try:
        judged: Judged = judge(code, tests, limits, how=how)
    except SandboxError as error:
        return Verdict(None, f"error: {error}")
    share = sum(judged.passed) / len(judged.passed)
    return Verdict(share if partial else float(share == 1.0), judged.cause)


def _tests(found: Any, name: str) -> list[Any]:
    tests = [found] if isinstance(found, str) else found
    if isinstance(tests, list) and tests:
        if all(isinstance(test, str) for test in tests):
            return tests
        if all(isinstance(test, dict) and {"input", "output"} <= test.keys() for test in tests):
            return [{key: str(test[key]) for key in ("input", "output")} for test in tests]
    raise ValueError(
        f"unit_tests: the column {name} must hold programs or a list of {{input, output}}, not {found!r:.80}"
    )
