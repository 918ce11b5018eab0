"""Recipes over several seeds: train, evaluate, and write the table and the curves of a recipe's README.

    python recipes/seeds.py recipes/prisoners_dilemma/naive.yaml recipes/prisoners_dilemma/ad_align.yaml \\
        --seeds 5 --row cooperation --row return@TFT --curve cooperation --figure curves.svg --out runs/seeds

A row is METRIC, of self-play, or METRIC@PLAYER, against that scripted player, or reward/NAME, what that term of the
recipe pays a seat for an episode of self-play. As row and as curve, nash_conv is the exact NashConv of `marft exploit`;
its curve has a point per checkpoint that the recipe keeps. The curve of reward/NAME is what training logs, the sum over
the seats (`--scale`). Runs and evaluations that are already done are taken as they are, and a run that was interrupted
goes on, so the call can be repeated.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Annotated, Any

import matplotlib
import typer

# Before torch is imported: so small a model gains little from a second thread.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from marft.config import Recipe
from marft.episode import Episode, finished
from marft.eval.arena import evaluate_once
from marft.eval.text_policy import exploitability_by_update, exploitability_of
from marft.quiet import quiet_libraries
from marft.recipe import load_recipe
from marft.report.names import label_of, name_of
from marft.store import read_episodes
from marft.train.folder import read_metrics, run_recipe
from marft.train.loop import train
from marft.train.rewarding import score_all, terms_of

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "marft"
from matplotlib import pyplot as plt  # noqa: E402 - the backend must be chosen first

NASH_CONV = "nash_conv"
REWARD = "reward/"
COLOURS = ("#c2410c", "#1d6fb8", "#15803d", "#7e22ce", "#a16207")


def main(
    recipes: Annotated[list[Path], typer.Argument(help="recipe files, one a column and a curve")],
    seeds: Annotated[int, typer.Option(min=1, help="how many, from 0 on")] = 3,
    out: Annotated[Path, typer.Option(help="runs, evaluations and table.md go here")] = Path("runs/seeds"),
    row: Annotated[list[str] | None, typer.Option(help="METRIC or METRIC@PLAYER; repeat for more rows")] = None,
    episodes: Annotated[int, typer.Option(min=1, help="instances per seat and pairing in the evaluation")] = 64,
    curve: Annotated[str | None, typer.Option(help="metric of the learning curves")] = None,
    scale: Annotated[float, typer.Option(help="the curves' values are multiplied by this")] = 1.0,
    label: Annotated[str | None, typer.Option(help="the curves' y axis; default the metric's name")] = None,
    level: Annotated[list[str] | None, typer.Option(help="VALUE=NAME, a line across the figure; repeatable")] = None,
    figure: Annotated[Path | None, typer.Option(help="where the curves go, an SVG")] = None,
) -> None:
    """Train each recipe with each seed, evaluate, and gather what came out."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    quiet_libraries()
    rows, found = row or [], {}
    for path in recipes:
        loaded = [load_recipe(path, [f"seed={seed}"]) for seed in range(seeds)]
        folders = [out / loaded[0].name / f"seed-{seed}" for seed in range(seeds)]
        for recipe, folder in zip(loaded, folders, strict=True):
            trained(recipe, folder)
        found[loaded[0].name] = folders
    if rows:
        results = {name: [evaluated(folder, rows, episodes) for folder in folders] for name, folders in found.items()}
        table = tabulate(results, rows)
        (out / "table.md").write_text(table, encoding="utf-8")
        print(table)
    if curve is not None and figure is not None:
        figure.parent.mkdir(parents=True, exist_ok=True)
        levels = {name: float(value) for value, _, name in (text.partition("=") for text in level or ())}
        draw(found, curve, scale, label or name_of(curve), levels, figure)


def trained(recipe: Recipe, folder: Path) -> None:
    """A finished run in the folder: a new one, or what is there, gone on with."""
    try:
        done = len(read_metrics(folder / "metrics.jsonl"))
    except OSError:
        done = 0
    finished = done >= recipe.train.updates and (folder / "adapters").is_dir()
    if not finished:
        train(recipe, folder, resume=(folder / "checkpoints").is_dir())


def evaluated(folder: Path, rows: Sequence[str], episodes: int) -> dict[str, Any]:
    """The run's evaluation against the players that the rows name: opponent ("self" too) -> metric -> mean."""
    players = ",".join(sorted({name for _, _, name in (text.partition("@") for text in rows) if name})) or "none"
    place = folder / "eval" / f"{players.replace(',', '-')}-{episodes}"
    evaluate_once({folder.parent.name: folder}, place, against=players, episodes=episodes)
    pairs = json.loads((place / "results.json").read_text(encoding="utf-8"))["pairs"]
    found = {one["opponent"]: {key: value["mean"] for key, value in one["metrics"].items()} for one in pairs}
    if any(row.startswith(REWARD) for row in rows):
        found["self"] |= rewards_of(folder, finished(list(read_episodes(place)))[:episodes])
    if NASH_CONV in rows:
        found["self"][NASH_CONV] = exploitability_of(folder).nash_conv
    return found


def rewards_of(folder: Path, played: Sequence[Episode]) -> dict[str, float]:
    """What the recipe's own terms pay a seat on average for an episode, before their weights."""
    terms = {name: term._replace(weight=1.0) for name, term in terms_of(run_recipe(folder)).items()}
    score_all(played, terms)
    return {
        f"{REWARD}{name}": fmean(math.fsum(steps) for one in played for steps in one.terms[name].values())
        for name in terms
    }


def tabulate(results: Mapping[str, Sequence[Mapping[str, Any]]], rows: Sequence[str]) -> str:
    """A column a recipe: the median over seeds, smallest and largest in brackets."""
    count = len(next(iter(results.values())))
    lines = [f"| median of {count} seeds | " + " | ".join(f"`{name}`" for name in results) + " |"]
    lines.append("|---" * (len(results) + 1) + "|")
    for text in rows:
        metric, _, player = text.partition("@")
        naming = label_of if metric.startswith(REWARD) else name_of
        title = naming(metric).replace("|", "\\|") + (f" against {player}" if player else "")
        lines.append(f"| {title} | " + " | ".join(cell(found, metric, player) for found in results.values()) + " |")
    return "\n".join(lines) + "\n"


def cell(found: Sequence[Mapping[str, Any]], metric: str, player: str) -> str:
    values = [one[player or "self"][metric] for one in found]
    values = [value for value in values if value is not None and math.isfinite(value)]
    if not values:
        return "never seen"
    digits = 1 if max(map(abs, values)) > 2 else 2
    low, middle, high = (f"{pick(values):.{digits}f}" for pick in (min, median, max))
    return f"{middle} ({low} to {high})"


def draw(
    found: Mapping[str, Sequence[Path]],
    metric: str,
    scale: float,
    label: str,
    levels: Mapping[str, float],
    path: Path,
) -> None:
    """The metric by update: a thin line per seed, a thick one for the median, a dashed one per level."""
    plain, axes = plt.subplots(figsize=(7, 3.2))
    for name, value in levels.items():
        axes.axhline(value, color="#888888", linewidth=1, linestyle="--")
        axes.annotate(name, (0, value), xytext=(2, 3), textcoords="offset points", color="#666666", fontsize=8)
    for number, (name, folders) in enumerate(found.items()):
        colour = COLOURS[number % len(COLOURS)]
        curves = [{update: scale * value for update, value in by_update(folder, metric).items()} for folder in folders]
        for values in curves:
            axes.plot(list(values), list(values.values()), color=colour, alpha=0.35, linewidth=1)
        updates = list(curves[0])
        middle = [median(values[update] for values in curves) for update in updates]
        axes.plot(updates, middle, color=colour, linewidth=2.5)
        axes.annotate(name, (updates[-1], middle[-1]), xytext=(6, 0), textcoords="offset points", color=colour)
    axes.set(xlabel="update", ylabel=label)
    axes.spines[["top", "right"]].set_visible(False)
    plain.savefig(path, bbox_inches="tight", facecolor="white", metadata={"Date": None})
    plt.close(plain)


def by_update(folder: Path, metric: str) -> dict[int, float]:
    """A metric of a run by the number of updates made when it was measured."""
    if metric == NASH_CONV:
        return {update: found.nash_conv for update, found in exploitability_by_update(folder).items()}
    key = metric if metric.startswith(REWARD) else f"game/{metric}"
    return {line["update"]: line[key] for line in read_metrics(folder / "metrics.jsonl")}


if __name__ == "__main__":
    typer.run(main)
