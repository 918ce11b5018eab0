"""The demo: train a naive and an Advantage Alignment team on the iterated prisoner's dilemma, compare, report.

Writes runs/demo/{naive,ad_align}/ (the runs), eval/ (results.json and episodes), report.html and summary.json, and
prints the table. Takes a few minutes on two CPU cores.
"""

from __future__ import annotations

import json
import logging
import os
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

# Before torch is imported: so small a model gains little from a second thread, and on a machine that is busy otherwise
# two threads that wait for each other at every operation are many times slower than one.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from marft.eval.arena import evaluate
from marft.eval.results import print_table
from marft.files import write_text
from marft.quiet import quiet_libraries
from marft.recipe import load_recipe
from marft.report.write import write_report
from marft.train.folder import read_metrics
from marft.train.loop import train

HERE = Path(__file__).parent
TEAMS = ("naive", "ad_align")


def main(
    out: Annotated[Path, typer.Option(help="folder for everything the demo writes")] = Path("runs/demo"),
    seed: Annotated[int, typer.Option(help="seed of both runs")] = 0,
    episodes: Annotated[int, typer.Option(help="instances per seat and pairing in the evaluation")] = 64,
) -> None:
    """Train both teams, evaluate them, write the report."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("marft").setLevel(logging.INFO)
    quiet_libraries()
    began = time.perf_counter()
    runs = {name: out / name for name in TEAMS}
    for name, folder in runs.items():
        train(load_recipe(HERE / f"{name}.yaml", [f"seed={seed}"]), folder, overwrite=True)
    results = evaluate(runs, out / "eval", episodes=episodes, seed=seed, overwrite=True)
    title = "Two teams learn the iterated prisoner's dilemma"
    report = write_report(runs, out / "report.html", results=out / "eval" / "results.json", title=title)
    write_text(out / "summary.json", json.dumps(summarise(results, runs), indent=2) + "\n")
    print_table(results, Console())
    print(f"report:  {report}\nsummary: {out / 'summary.json'}\ntook:    {time.perf_counter() - began:.0f} s")


def summarise(results: dict[str, Any], runs: dict[str, Path]) -> dict[str, Any]:
    """The demo's figures: per team the training time, self-play, and play against each scripted player."""
    summary: dict[str, Any] = {}
    for name, folder in runs.items():
        lines = read_metrics(folder / "metrics.jsonl")
        seconds = sum(value for line in lines for key, value in line.items() if key.startswith("seconds/"))
        summary[name] = {"train_seconds": round(seconds, 1), "vs": {}}
    for pairing in results["pairs"]:
        means = {key: value["mean"] for key, value in pairing["metrics"].items()}
        if pairing["kind"] == "self":
            conditional = {state: means[f"p_c_{state}"] for state in ("cc", "cd", "dc", "dd")}
            own = {"cooperation": means["cooperation"], "return": means["return"], "p_c": conditional}
            summary[pairing["team"]]["self_play"] = own
        else:
            keys = ("cooperation", "cooperation_after_first", "return", "opponent_return")
            summary[pairing["team"]]["vs"][pairing["opponent"]] = {key: means[key] for key in keys}
    return summary


if __name__ == "__main__":
    typer.run(main)
