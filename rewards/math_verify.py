"""Whether an answer is the same mathematics as the true one, by the math-verify library in workers that can be killed.

The library stops itself by a signal, which does nothing against a power tower, and calls what it stopped wrong. Its own
timeouts are off here; the parent's clock decides, and says so.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from typing import Any

from marft.rewards.grading import Case, batch_reward, said, truth
from marft.rewards.needs import needs
from marft.rewards.workers import Verdict, workers_of

TAIL = 4000
"""Characters at the end of a text in which an unmarked answer is looked for."""


@needs("math_verify")
@batch_reward
def math_verify(
    cases: Sequence[Case],
    answer: str = "answer",
    marked: bool = True,
    digits: int = 6,
    deadline: float = 5.0,
    memory: int = 2048,
) -> list[Verdict]:
    """1 for an answer that math-verify finds equal to the true one, else 0.

    answer: where the facts or columns hold the true one. marked: only an answer between `<answer>` marks or in
    `\\boxed{}` counts; otherwise, in a text without a mark, what the library finds. digits: after the point, to which
    numbers must agree. deadline: seconds of wall time for one answer. memory: MiB a worker may use.
    """
    items: list[list[Any]] = []
    given: list[int] = []
    found = [Verdict(0.0)] * len(cases)
    for number, (turn, episode) in enumerate(cases):
        text, true = said(turn), truth(episode, answer)
        if text is not None or not marked:
            items.append([text, None if text is not None else turn.text[-TAIL:], true])
            given.append(number)
    workers = workers_of("marft.rewards.math_verify:grader", {"digits": digits}, deadline=deadline, memory=memory)
    for number, verdict in zip(given, workers.run(items), strict=True):
        found[number] = verdict
    return found


def grader(digits: int) -> Callable[[Sequence[str | None]], float]:
    """In a worker: (the answer or None, the text it is looked for in, the true answer) -> 1.0 or 0.0.

    Raises ValueError where the true answer cannot be read. What is said and cannot be read is wrong.
    """
    from math_verify import parse, verify

    logging.getLogger("math_verify").setLevel(logging.CRITICAL)  # it warns of its timeouts being off

    @functools.lru_cache(4096)
    def read(text: str) -> list[Any]:
        return parse(text, parsing_timeout=None, raise_on_error=True)

    @functools.lru_cache(4096)
    def right(text: str) -> list[Any]:
        try:
            found = read(boxed(text))
        except (MemoryError, KeyboardInterrupt):
            raise
        except Exception as error:  # the library may raise anything on a text
            raise ValueError(f"the true answer {text!r:.80} cannot be read: {type(error).__name__}") from None
        if not found:
            raise ValueError(f"the true answer {text!r:.80} cannot be read")
        return found

    def grade(item: Sequence[str | None]) -> float:
        text, around, true = item
        gold = right(true)
        try:
            told = read(around if text is None else boxed(text))
            same = verify(gold, told, float_rounding=digits, timeout_seconds=None, raise_on_error=True)
        except MemoryError:
            raise
        except Exception:  # what is said may be anything, and what the library cannot read is not the true answer
            return 0.0
        return float(same)

    read("\\boxed{\\frac{1}{2}}")  # builds the parser's tables, which takes a while
    return grade


def boxed(answer: str) -> str:
    return answer if "\\boxed{" in answer else f"\\boxed{{{answer}}}"
