"""What reasoning-gym's own grader of a task set gives an answer, in workers that can be killed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from marft.rewards.grading import Case, batch_reward, fact, said
from marft.rewards.needs import needs
from marft.rewards.workers import Verdict, workers_of

PREFIX = "reasoning_gym:"


@needs("reasoning_gym")
@batch_reward
def reasoning_gym(
    cases: Sequence[Case],
    marked: bool = True,
    least: float = 0.0,
    deadline: float = 10.0,
    memory: int = 4096,
) -> list[Verdict]:
    """The set's score of a final answer, 0 to 1; most sets give part of it for an answer in the wrong form.

    The task's columns hold `entry`, the row of the set, and `source`, the set's name (else the fact `task` does).
    marked: an answer must stand between `<answer>` marks or in `\\boxed{}`; otherwise a text without a mark is one as a
    whole. least: what is below counts as 0. deadline: seconds of wall time for one answer. memory: MiB of a worker.
    """
    items = []
    for turn, episode in cases:
        entry, answer = fact(episode, "entry"), said(turn)
        if not isinstance(entry, Mapping):
            raise ValueError(f"reasoning_gym: the task's column entry must be a row of the set, not {entry!r:.80}")
        columns = episode.facts.get("columns") or {}
        name = str(columns.get("source") or fact(episode, "task")).removeprefix(PREFIX)
        items.append([name, turn.text if answer is None and not marked else answer, dict(entry)])
    workers = workers_of("marft.rewards.reasoning_gym:grader", deadline=deadline, memory=memory)
    return [
        verdict if verdict.value is None or verdict.value >= least else Verdict(0.0, verdict.cause)
        for verdict in workers.run(items)
    ]


def grader() -> Callable[[Sequence[Any]], float]:
    """In a worker: (set, answer or None, row) -> its score."""
    import reasoning_gym as library

    graders: dict[str, Any] = {}

    def grade(item: Sequence[Any]) -> float:
        name, answer, entry = item
        if name not in graders:
            graders[name] = library.get_score_answer_fn(name)
        if answer is None:
            return 0.0
        return float(graders[name](answer, entry))

    return grade
