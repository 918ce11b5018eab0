"""MALT by marft's commands, and what each role has learned, on questions that nothing was trained on.

    python recipes/malt/run.py --out runs/malt --seeds 3

Trees are collected with the roles as they are; each role is fine-tuned on its right nodes; verifier and refiner then
prefer right siblings to wrong ones. What is there already is kept, so the call can be repeated.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Annotated

import typer

from marft.answers import same_answer
from marft.store import read_episodes

RECIPE = Path(__file__).with_name("malt.yaml")
ROLES = ("generator", "verifier", "refiner")
PREFERRING = ROLES[1:]
TEAMS = {"trees": "collected with", "sft": "after SFT", "malt": "after DPO"}


def main(
    out: Annotated[Path, typer.Option(help="runs, stages and evaluations go here")] = Path("runs/malt"),
    seeds: Annotated[int, typer.Option(min=1, help="how many, from 0 on")] = 3,
    episodes: Annotated[int, typer.Option(min=1, help="questions of the evaluation")] = 400,
) -> None:
    """Run all stages and print the table."""
    found = [team_accuracies(out / f"seed-{seed}", seed, episodes) for seed in range(seeds)]
    print(f"| right answers, median of {seeds} seeds | " + " | ".join(TEAMS.values()) + " |")
    print("|---" * (len(TEAMS) + 1) + "|")
    for role in ROLES:
        print(f"| {role} | " + " | ".join(cell([one[team][role] for one in found]) for team in TEAMS) + " |")
    first, *_, last = TEAMS
    told = {key: [one[team]["refiner"] for one in found] for key, team in (("before", first), ("after", last))}
    (out / "table.json").write_text(json.dumps(told), encoding="utf-8")  # for recipes/table.py


def team_accuracies(out: Path, seed: int, episodes: int) -> dict[str, dict[str, float]]:
    """team -> role -> share of its answers that are right, on the questions of the test split."""
    trees, seeded = out / "trees", (RECIPE, f"seed={seed}")
    marft(trees, "train", *seeded, "--out", trees)
    for role in ROLES:
        own = ("--agent", role, "--epochs", EPOCHS[role], *RIGHT)
        marft(out / "sft" / role, "sft", *seeded, "--episodes", trees, *own, "--out", out / "sft" / role)
    taught = {role: out / "sft" / role / "adapters" / role for role in ROLES}
    starts = [f"agents.{role}.start_from={folder}" for role, folder in taught.items()]
    chosen = [flag for role in PREFERRING for flag in ("--agent", role)]
    marft(out / "dpo", "dpo", *seeded, *starts, "--episodes", trees, *chosen, *SIBLINGS, "--out", out / "dpo")
    preferring = {role: out / "dpo" / "adapters" / role for role in PREFERRING}
    before = {role: trees / "adapters" / role for role in ROLES}
    found = {}
    for team, adapters in zip(TEAMS, (before, taught, taught | preferring), strict=True):
        place = out / "teams" / team
        for role, folder in adapters.items():
            shutil.copytree(folder, place / role, dirs_exist_ok=True)
        given = ("--recipe", RECIPE, "--against", "none", "--episodes", episodes, "--out", out / "eval" / team)
        ours = ("own", "--team", f"{team}={place}", "--resume")
        marft(out / "eval" / team / "results.json", "eval", *ours, *given)
        found[team] = accuracies(out / "eval" / team)
    return found


EPOCHS = {"generator": 6, "verifier": 3, "refiner": 1}
"""Passes over the right nodes of a role: a tree has 3 answers, 9 verdicts and 27 refinements."""
RIGHT = ("--above", 0.5, "--learning-rate", 2e-3, "--batch-size", 32)
"""Each role learns from its nodes that are worth more than a half."""
SIBLINGS = ("--worth", "value", "--above", 0.5, "--max-pairs", 800, "--beta", 0.2, "--learning-rate", 3e-4)
SIBLINGS += ("--epochs", 2, "--sft-weight", 1)
"""Right against wrong, of one parent; with a part of the likelihood, see docs/stages.md on what DPO takes from both."""


def marft(done: Path, *arguments: object) -> None:
    """One command, where what it makes is not there yet."""
    finished = done.is_file() or (done / "adapters").is_dir()
    if not finished:
        words = [str(argument) for argument in arguments]
        print("marft", " ".join(words), flush=True)
        subprocess.run([sys.executable, "-m", "marft", *words], check=True, stdout=subprocess.DEVNULL)


def accuracies(place: Path) -> dict[str, float]:
    """role -> share of right answers; what could not be read is wrong."""
    right: dict[str, list[bool]] = {role: [] for role in ROLES}
    for episode in read_episodes(place):
        for turn in episode.turns:
            said = turn.action.get("answer")
            right[turn.seat].append(said is not None and same_answer(said, episode.facts["answer"]))
    return {role: sum(flags) / len(flags) for role, flags in right.items()}


def cell(values: list[float]) -> str:
    low, middle, high = min(values), median(values), max(values)
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


if __name__ == "__main__":
    typer.run(main)
