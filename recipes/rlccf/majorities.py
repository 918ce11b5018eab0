"""Where learning from a consensus helps, and where it cannot: right answers by whether the majority was right before.

    python recipes/rlccf/majorities.py BEFORE AFTER --episodes 512

BEFORE and AFTER are run folders; each is played with itself on the same questions of the test split, or the evaluation
is taken that is there. Half of BEFORE's plays say what most answer to a question; answers are counted in the other
half, so that no question is called hard by the answers that are counted. AFTER's are counted on the same questions.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Annotated

import typer

from marft.answers import same_answer
from marft.eval.arena import evaluate_once
from marft.games.debate_metrics import majority
from marft.quiet import quiet_libraries
from marft.store import read_episodes

Answers = dict[str, list[tuple[int, str | None, str]]]
"""question -> (play, answer, true answer)"""


def main(
    before: Annotated[Path, typer.Argument(help="run folder")],
    after: Annotated[Path, typer.Argument(help="run folder")],
    episodes: Annotated[int, typer.Option(min=1, help="plays")] = 512,
) -> None:
    """Print a table."""
    quiet_libraries()
    first, last = answers(before, episodes), answers(after, episodes)
    shares: dict[bool, list[list[bool]]] = {True: [[], []], False: [[], []]}
    counts = {True: 0, False: 0}
    for question, given in first.items():
        deciding = majority([answer for play, answer, _ in given if play % 2 == 0])
        if deciding is None:
            continue
        right = same_answer(deciding, given[0][2])
        counts[right] += 1
        shares[right][0] += [same_answer(answer, truth) for play, answer, truth in given if play % 2]
        shares[right][1] += [same_answer(answer, truth) for _, answer, truth in last.get(question, [])]
    print("| the majority before was | questions | right before | right after |\n|---|---|---|---|")
    for right, name in ((True, "right"), (False, "wrong")):
        cells = (f"{sum(one) / len(one):.2f}" if one else "none" for one in shares[right])
        print(f"| {name} | {counts[right]} | {' | '.join(cells)} |")


def answers(run: Path, episodes: int) -> Answers:
    """What all seats answered to each question; plays of a question are numbered from 0."""
    place = evaluate_once({run.name: run}, run / "eval" / f"none-{episodes}", against="none", episodes=episodes)
    found: Answers = defaultdict(list)
    plays: dict[str, int] = defaultdict(int)
    for episode in read_episodes(place):
        question, truth = episode.facts["question"], episode.facts["answer"]
        found[question] += [(plays[question], turn.action["answer"], truth) for turn in episode.turns]
        plays[question] += 1
    return found


if __name__ == "__main__":
    typer.run(main)
