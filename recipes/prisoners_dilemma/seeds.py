"""The demo over several seeds: medians as a Markdown table and the learning curves as an SVG.

    python recipes/prisoners_dilemma/seeds.py --seeds 5 --out runs/seeds --figure docs/prisoners_dilemma.svg

Seeds that are already done are taken as they are, so an interrupted call can be repeated.
"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import matplotlib
import typer
from demo import TEAMS, main

from marft.train.folder import read_metrics

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "marft"
from matplotlib import pyplot as plt  # noqa: E402 - the backend must be chosen first

ROWS = {
    "cooperation in self-play": lambda team: team["self_play"]["cooperation"],
    "P(C \\| both cooperated)": lambda team: team["self_play"]["p_c"]["cc"],
    "P(C \\| I cooperated, it defected)": lambda team: team["self_play"]["p_c"]["cd"],
    "P(C \\| I defected, it cooperated)": lambda team: team["self_play"]["p_c"]["dc"],
    "P(C \\| both defected)": lambda team: team["self_play"]["p_c"]["dd"],
    "cooperation against AllD after round 1": lambda team: team["vs"]["AllD"]["cooperation_after_first"],
    "cooperation against tit-for-tat": lambda team: team["vs"]["TFT"]["cooperation"],
    "return in self-play (10 to 30)": lambda team: team["self_play"]["return"],
    "return against AllD (0 to 10)": lambda team: team["vs"]["AllD"]["return"],
    "return against tit-for-tat": lambda team: team["vs"]["TFT"]["return"],
}


def run(
    seeds: Annotated[int, typer.Option(help="how many, from 0 on")] = 5,
    out: Annotated[Path, typer.Option(help="a folder per seed goes here, and table.md")] = Path("runs/seeds"),
    figure: Annotated[Path | None, typer.Option(help="where the learning curves go")] = None,
) -> None:
    """Run the demo for each seed and gather what came out."""
    folders = [out / f"seed-{seed}" for seed in range(seeds)]
    for seed, folder in enumerate(folders):
        if not (folder / "summary.json").exists():
            main(folder, seed)
    table = tabulate([json.loads((folder / "summary.json").read_text()) for folder in folders])
    (out / "table.md").write_text(table, encoding="utf-8")
    print(table)
    if figure is not None:
        figure.parent.mkdir(parents=True, exist_ok=True)
        draw(folders, figure)


def tabulate(summaries: list[dict[str, Any]]) -> str:
    """Medians over seeds, smallest and largest in brackets."""
    lines = [
        f"| median of {len(summaries)} seeds | " + " | ".join(f"`{team}`" for team in TEAMS) + " |",
        "|---|---|---|",
    ]
    for label, read in ROWS.items():
        cells = []
        for team in TEAMS:
            found = [value for value in (read(summary[team]) for summary in summaries) if value is not None]
            digits = 1 if found and max(found) > 2 else 2
            low, middle, high = (f"{f(found):.{digits}f}" for f in (min, median, max)) if found else ("",) * 3
            cells.append(f"{middle} ({low} to {high})" if found else "never seen")
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def draw(folders: list[Path], path: Path) -> None:
    """Cooperation by update: a thin line per seed, a thick one for the median."""
    plain, axes = plt.subplots(figsize=(7, 3.2))
    for team, colour, name in zip(TEAMS, ("#c2410c", "#1d6fb8"), ("naive", "Advantage Alignment"), strict=True):
        curves = [
            [line["game/cooperation"] for line in read_metrics(folder / team / "metrics.jsonl")] for folder in folders
        ]
        for curve in curves:
            axes.plot(curve, color=colour, alpha=0.35, linewidth=1)
        middle = [median(values) for values in zip(*curves, strict=True)]
        axes.plot(middle, color=colour, linewidth=2.5)
        axes.annotate(name, (len(middle) - 1, middle[-1]), xytext=(6, 0), textcoords="offset points", color=colour)
    axes.set(xlabel="update (64 episodes each)", ylabel="cooperation in self-play", ylim=(0, 1))
    axes.spines[["top", "right"]].set_visible(False)
    plain.savefig(path, bbox_inches="tight", facecolor="white", metadata={"Date": None})
    plt.close(plain)


if __name__ == "__main__":
    typer.run(run)
