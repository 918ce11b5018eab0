"""A helper function and a main function, written by two seats: MAGRPO's rewards for code (arXiv 2508.04652).

Levels and numbers are those of the authors' code (github OpenMLRL/LLM_Collab_Code_Generation, `code_rewards.py`). Ours
reads the use of the helper in the program's syntax tree, where theirs matches patterns, and runs it in the sandbox.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from marft.rewards.grading import Paid, Ungraded, fact
from marft.rewards.sandbox import How, Limits, SandboxError, way
from marft.rewards.sandbox.judge import Judged, by_tests, code_of

if TYPE_CHECKING:
    from marft.episode import Episode

Level = Literal["format", "syntax", "tests", "cooperation"]
AUX, MAIN, SYNTAX, TESTS = 0.4, 0.6, 0.5, 1.0
USED, NOT_BARE, IGNORED = 0.5, 1.0, -0.5
_IMPORT = re.compile(r"^(?:import|from) [^\n]+", re.MULTILINE)
REMEMBERED = 4096
"""Programs whose verdict is kept: small models write the same ones again and again."""


class Levels(NamedTuple):
    """What each level brought."""

    format: float = 0.0
    syntax: float = 0.0
    tests: float = 0.0
    cooperation: float = 0.0


@dataclass(frozen=True)
class Program:
    """What two texts make together.

    aux, main: whether each text defines its function and returns something from it. code: both functions, "" where they
    are no Python. cooperation: what the use of the one in the other is worth.
    """

    aux: bool
    main: bool
    code: str = ""
    cooperation: float = 0.0


@dataclass
class _Memory:
    judged: dict[tuple[Any, ...], Judged] = field(default_factory=dict)

    def keep(self, key: tuple[Any, ...], judged: Judged) -> None:
        if judged.cause is None:  # what was stopped may have been stopped by a busy machine
            self.judged[key] = judged
            while len(self.judged) > REMEMBERED:
                del self.judged[next(iter(self.judged))]


_MEMORY = _Memory()


def cooperative_code(
    episodes: Sequence[Episode],
    level: Level | Literal["all"] = "all",
    seats: Sequence[str] = ("aux", "main"),
    tests: str = "tests",
    entry: str = "main",
    deadline: float = 10.0,
    memory: int = 512,
    unsandboxed: bool = False,
) -> list[dict[str, float] | Ungraded]:
    """What the last texts of a helper's and a main function's writer are worth together; all seats are paid that.

    level: `format`, 0.4 for a function `aux` that returns something and 0.6 for such a main function, without which
    nothing else counts; `syntax`, 0.5 where both together are Python; `tests`, the share of tests that pass;
    `cooperation`, where one passes: 0.5 for a main function that calls `aux`, 1 more if it is no bare call of it, 0.5
    less if it drops what a call returns; or `all` of it, 4 at most. seats: who writes the helper, who the main
    function. tests: the column that holds them, programs that raise where something is wrong. entry: the main
    function's name, or the column that holds it. deadline: seconds of wall time for all tests of a program. memory: MiB
    of each process. unsandboxed: run it with your own rights where there is no sandbox. A program that was judged is
    not run again.
    """
    how = way(unsandboxed)  # before any text, so that nobody waits to learn that there is none
    limits = Limits(seconds=deadline, memory=memory)
    programs = [_program(episode, seats, entry) for episode in episodes]
    wanted = [_tests(fact(episode, tests), tests) for episode in episodes]
    keys = [(one.code, checks, limits, how) for one, checks in zip(programs, wanted, strict=True) if one.code]
    new = [key for key in dict.fromkeys(keys) if key not in _MEMORY.judged]
    known = {key: _MEMORY.judged[key] for key in keys if key in _MEMORY.judged}
    with ThreadPoolExecutor(min(8, len(os.sched_getaffinity(0)))) as threads:
        known |= zip(new, threads.map(_judged, new), strict=True)
    for key in new:
        if isinstance(known[key], Judged):
            _MEMORY.keep(key, known[key])
    found: list[dict[str, float] | Ungraded] = []
    for episode, made, checks in zip(episodes, programs, wanted, strict=True):
        judged = known.get((made.code, checks, limits, how)) if made.code else None
        if isinstance(judged, Ungraded):
            found.append(judged)
            continue
        value = _levels(made, judged)
        paid = dict.fromkeys(episode.seats, sum(value) if level == "all" else getattr(value, level))
        found.append(Paid(paid, [judged.cause]) if judged is not None and judged.cause is not None else paid)
    return found


cooperative_code.unit = "episode"


def _judged(key: tuple[str, tuple[str, ...], Limits, How]) -> Judged | Ungraded:
    code, checks, limits, how = key
    try:
        return by_tests(code, checks, limits, how=how)
    except SandboxError as error:
        return Ungraded(f"error: {error}")


def _levels(made: Program, judged: Judged | None) -> Levels:
    defined = AUX * made.aux + MAIN * made.main
    if judged is None:
        return Levels(defined)
    share = sum(judged.passed) / len(judged.passed)
    return Levels(defined, SYNTAX, TESTS * share, made.cooperation if share else 0.0)


def _program(episode: Episode, seats: Sequence[str], entry: str) -> Program:
    if len(seats) != 2 or not set(seats) <= set(episode.seats):
        raise ValueError(
            f"cooperative_code: options.seats must be two of {', '.join(episode.seats)}, got {list(seats)}"
        )
    columns = episode.facts.get("columns") or {}
    last = {turn.seat: turn.text for turn in episode.turns}
    return program(*(last.get(seat, "") for seat in seats), str(columns.get(entry, entry)))


def program(aux: str, main: str, entry: str = "main") -> Program:
    """The two functions out of two texts, put together; what else stands in the texts is left out, imports aside."""
    helper, body = function_in(aux, "aux"), function_in(main, entry)
    if body is None:
        return Program(helper is not None, False)
    parts = [*dict.fromkeys(_IMPORT.findall(code_of(aux)) + _IMPORT.findall(code_of(main))), helper or "", body]
    code = "\n\n".join(part for part in parts if part)
    tree = _parsed(code)
    if tree is None:
        return Program(helper is not None, True)
    node = next((one for one in reversed(tree.body) if isinstance(one, ast.FunctionDef) and one.name == entry), None)
    together = _together(node) if helper is not None and node is not None else 0.0
    return Program(helper is not None, True, code, together)


def function_in(text: str, name: str) -> str | None:
    """The last function of this name in a text's code, by its lines: from its `def` to the first line that is not
    indented. None without one, or where nothing is returned."""
    lines = code_of(text).split("\n")
    starts = [number for number, line in enumerate(lines) if re.match(rf"def {re.escape(name)}\s?\(", line)]
    if not starts:
        return None
    stop = starts[-1] + 1
    while stop < len(lines) and (not lines[stop].strip() or lines[stop][0] in " \t"):
        stop += 1
    block = "\n".join(lines[starts[-1] : stop]).rstrip()
    return block if re.search(r"\breturn\s", block) else None


def _parsed(code: str) -> ast.Module | None:
    """The code's tree, if it compiles: parsing alone lets pass, among others, a `return` outside of functions."""
    try:
        compile(code, "code", "exec", dont_inherit=True)
        return ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _together(main: ast.FunctionDef) -> float:
    """What the use of `aux` in a main function is worth, where a test passes."""
    if not any(_calls_aux(node) for node in ast.walk(main)):
        return 0.0
    dropped = any(isinstance(node, ast.Expr) and _calls_aux(node.value) for node in ast.walk(main))
    return USED + (0.0 if _is_bare(main) else NOT_BARE) + (IGNORED if dropped else 0.0)


def _calls_aux(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "aux"


def _is_bare(main: ast.FunctionDef) -> bool:
    """`return aux(…)`, or `name = aux(…)` and `return name`, and nothing else but a docstring."""
    body = main.body[1:] if ast.get_docstring(main) is not None else main.body
    if len(body) == 1:
        return isinstance(body[0], ast.Return) and _calls_aux(body[0].value)
    if len(body) != 2 or not isinstance(body[0], ast.Assign) or not isinstance(body[1], ast.Return):
        return False
    named, given = body[0].targets, body[1].value
    same = len(named) == 1 and isinstance(named[0], ast.Name) and isinstance(given, ast.Name)
    return same and named[0].id == given.id and _calls_aux(body[0].value)


def _tests(found: Any, name: str) -> tuple[str, ...]:
    tests = [found] if isinstance(found, str) else found
    if isinstance(tests, list) and tests and all(isinstance(test, str) for test in tests):
        return tuple(tests)
    raise ValueError(f"cooperative_code: the column {name} must hold a program or a list of them, not {found!r:.80}")
