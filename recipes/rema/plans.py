"""What became of ReMA's two roles: how often the plan is right, and how often it is followed.

    python recipes/rema/plans.py runs/rema

The run's team is played on the test split, unless that evaluation is there already. A plan is right if it names what
the question asks for, and it is followed if the answer is what the plan leads to.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Annotated

import typer
from players import PLANS, WORDS

from marft.answers import same_answer
from marft.episode import Episode
from marft.eval.arena import evaluate_once
from marft.quiet import quiet_libraries
from marft.store import read_episodes


def main(
    run: Annotated[Path, typer.Argument(help="run folder")],
    episodes: Annotated[int, typer.Option(min=1, help="questions of the evaluation")] = 256,
) -> None:
    """Print the shares."""
    quiet_libraries()
    place = evaluate_once({run.name: run}, run / "eval" / f"none-{episodes}", against="none", episodes=episodes)
    print(json.dumps(shares(list(read_episodes(place, 0))), indent=1))


def shares(episodes: Sequence[Episode]) -> dict[str, float]:
    """plan_right; followed; right; right_plan_right, right_plan_wrong: right answers by whether the plan was right."""
    found = [_look(episode) for episode in episodes]
    by_plan = {told: [right for plan, _, right in found if plan == told] for told in (True, False)}
    return {
        "plan_right": mean(plan for plan, _, _ in found),
        "followed": mean(followed for _, followed, _ in found),
        "right": mean(right for _, _, right in found),
        **{
            f"right_plan_{name}": mean(by_plan[told])
            for name, told in (("right", True), ("wrong", False))
            if by_plan[told]
        },
    }


def _look(episode: Episode) -> tuple[bool, bool, bool]:
    """Of the first plan and the last answer: is the plan right, is it followed, is the answer right."""
    word, _, rest = episode.facts["question"].partition(" of ")
    numbers = [int(number) for number in rest.split(", ")]
    plan = next(iter(episode.turns_of("planner"))).text.strip()
    answer = list(episode.turns_of("executor"))[-1].action["answer"]
    followed = plan in PLANS and same_answer(answer, str(PLANS[plan](numbers)))
    return plan == WORDS[word], followed, same_answer(answer, episode.facts["answer"])


if __name__ == "__main__":
    typer.run(main)
