"""How many texts graders judge in a second: mathematics in warm workers, and code in a sandbox.

Every answer is another one, so that nothing is taken from a cache; all workers of the machine's cores are warm.
"""

from __future__ import annotations

import os
import time

from timing import medians

from marft.rewards.sandbox import Limits, SandboxError, way
from marft.rewards.sandbox.judge import by_tests
from marft.rewards.workers import Workers

ITEMS = 1000
KINDS = {
    "whole numbers": lambda number: f"{number}",
    "decimals": lambda number: f"{number / 8}",
    "fractions in LaTeX": lambda number: f"\\frac{{{number}}}{{{2 * number + 1}}}",
    "polynomials in LaTeX": lambda number: f"x^2 + {number}x + 1",
}


def table(rounds: int) -> list[tuple[str, str]]:
    """Verifications per second by kind of answer, and programs per second."""
    workers = Workers("marft.rewards.math_verify:grader", {"digits": 6}, deadline=60.0)
    drawn = iter(range(1, 10**9))

    def items(kind: str) -> list[list[str | None]]:
        return [[KINDS[kind](next(drawn)), None, "\\frac{1}{2}"] for _ in range(ITEMS)]

    def grade(kind: str) -> None:
        causes = [verdict.cause for verdict in workers.run(items(kind)) if verdict.cause]
        if causes:
            raise RuntimeError(f"{kind}: {causes[0]}")

    try:
        grade("whole numbers")
        seconds = medians({kind: lambda kind=kind: grade(kind) for kind in KINDS}, rounds, time.perf_counter)
    finally:
        workers.close()
    rows = [(f"math_verify, {kind}", f"{ITEMS / seconds[kind]:,.0f}/s") for kind in KINDS]
    rows.append(("cores", f"{len(os.sched_getaffinity(0))}"))
    return rows + _programs(rounds)


def _programs(rounds: int) -> list[tuple[str, str]]:
    """One program with one test, start and end of both sandboxes included."""
    try:
        how = way()
    except SandboxError as error:
        return [("unit_tests", f"not measured: {error}")]

    def one() -> None:
        if not by_tests("def f(x): return 2 * x", ["assert f(3) == 6"], Limits(seconds=60.0), how=how).passed[0]:
            raise RuntimeError("the sandbox does not answer")

    seconds = medians({"one": one}, 5 * rounds, time.perf_counter)["one"]
    return [(f"unit_tests, a program and its tests by {how}, one after the other", f"{1 / seconds:.1f}/s")]
