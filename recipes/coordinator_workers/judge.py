"""What stands in for the expert judge of M-GRPO (2511.13288): whether a worker's answer is right for its own sub-task.

The judge of the paper is a language model that reads the sub-agent's work. Sub-tasks of the tiny model have one form,
so a rule can judge them; with a real model use the reward `judge` with a remote, as the README shows.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from marft.answers import same_answer

if TYPE_CHECKING:
    from marft.episode import Episode

SUBTASK = re.compile(r"largest of (\d+(?:, ?\d+)*)")


def sub_task_done(episode: Episode) -> dict[str, list[float]]:
    """1 at each step where a called seat answers its sub-task rightly; 0 for a sub-task that cannot be read.

    A sub-task's number, in the order they were handed out, is the mark `call` of the turn that answers it.
    """
    subtasks = [subtask for turn in episode.turns for subtask in turn.action.get("calls", ())]
    paid = {seat: [0.0] * len(episode.rewards) for seat in episode.seats}
    for turn in episode.turns:
        if "call" in turn.marks:
            paid[turn.seat][turn.step] += worth(subtasks[turn.marks["call"] - 1], turn.action.get("answer"))
    return paid


def worth(subtask: str, answer: str | None) -> float:
    """1 for the largest number that the sub-task names."""
    found = SUBTASK.fullmatch(subtask.strip())
    if found is None:
        return 0.0
    return float(same_answer(answer, str(max(map(int, found.group(1).split(","))))))
