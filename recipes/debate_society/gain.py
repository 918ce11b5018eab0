"""What training brought to the answers after a debate, in two parts: better first answers, and better listening.

    python recipes/debate_society/gain.py runs/seeds/debate_untrained/seed-0 runs/seeds/debate_society/seed-0

Each run is played with itself on the test split, or the evaluation is taken that is there already.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from marft.eval.arena import evaluate_once
from marft.eval.flips import gain
from marft.quiet import quiet_libraries


def main(
    before: Annotated[Path, typer.Argument(help="run folder")],
    after: Annotated[Path, typer.Argument(help="run folder")],
    episodes: Annotated[int, typer.Option(min=1, help="questions")] = 64,
) -> None:
    """Print the gain in points of accuracy."""
    quiet_libraries()
    found = gain(flips(before, episodes), flips(after, episodes))
    print(
        f"right after the debate: {100 * found.whole:+.1f} points, of which first answers {100 * found.first:+.1f} "
        f"and listening {100 * found.listening:+.1f}"
    )


def flips(run: Path, episodes: int) -> dict[str, float]:
    """The run's own metrics, as recipes/seeds.py stores them."""
    place = evaluate_once({run.name: run}, run / "eval" / f"none-{episodes}", against="none", episodes=episodes)
    (pair,) = json.loads((place / "results.json").read_text(encoding="utf-8"))["pairs"]
    return {key: value["mean"] for key, value in pair["metrics"].items()}


if __name__ == "__main__":
    typer.run(main)
