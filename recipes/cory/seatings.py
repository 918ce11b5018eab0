"""What it costs a team of CORY to change places: right answers as it sits in the recipe, and with its agents swapped.

    python recipes/cory/seatings.py runs/cory_seeds/cory/seed-0 runs/cory_seeds/cory/seed-1

Both seatings answer the same questions of the test split. An evaluation that is there already is taken as it is.
"""

from __future__ import annotations

from pathlib import Path
from statistics import mean, median
from typing import Annotated

import typer

from marft.answers import same_answer
from marft.eval.arena import evaluate_once
from marft.quiet import quiet_libraries
from marft.store import read_episodes

SWAPPED = Path(__file__).with_name("swapped.yaml")
ROLES = ("pioneer", "observer")


def main(
    runs: Annotated[list[Path], typer.Argument(help="run folders")],
    episodes: Annotated[int, typer.Option(min=1, help="questions of the evaluation")] = 256,
) -> None:
    """Print the table: medians of the runs, smallest and largest in brackets."""
    quiet_libraries()
    straight = [accuracies(run, False, episodes) for run in runs]
    swapped = [accuracies(run, True, episodes) for run in runs]
    print("| share of right answers | as in the recipe | swapped | swapping costs, points |")
    print("|---|---|---|---|")
    for role in (*ROLES, "both"):
        before, after = ([one[role] for one in found] for found in (straight, swapped))
        cost = [100 * (one - other) for one, other in zip(before, after, strict=True)]
        print(f"| {role} | {spread(before, 2)} | {spread(after, 2)} | {spread(cost, 1)} |")


def accuracies(run: Path, swapped: bool, episodes: int) -> dict[str, float]:
    """role -> share of its answers that are right; both: the mean of the two."""
    place = run / "eval" / (f"swapped-{episodes}" if swapped else f"none-{episodes}")
    team, recipe = (run / "adapters", SWAPPED) if swapped else (run, None)
    evaluate_once({run.name: team}, place, against="none", episodes=episodes, recipe=recipe)
    turns = [(turn, one.facts["answer"]) for one in read_episodes(place, 0) for turn in one.turns]
    found = {
        role: mean(same_answer(turn.action["answer"], truth) for turn, truth in turns if turn.seat == role)
        for role in ROLES
    }
    return found | {"both": mean(found.values())}


def spread(values: list[float], digits: int) -> str:
    low, middle, high = (f"{pick(values):.{digits}f}" for pick in (min, median, max))
    return f"{middle} ({low} to {high})"


if __name__ == "__main__":
    typer.run(main)
