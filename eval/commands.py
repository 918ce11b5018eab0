"""`marft compare`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

SIDE = "FOLDER of marft eval, or FOLDER:TEAM; of several training seeds, separated by commas"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(compare)


def compare(
    ours: Annotated[str, typer.Argument(help=SIDE, show_default=False)],
    theirs: Annotated[str, typer.Argument(help=SIDE, show_default=False)],
    metric: Annotated[
        list[str] | None,
        typer.Option(help="only this metric; repeatable. Fewer metrics make a difference clear sooner"),
    ] = None,
    resamples: Annotated[int, typer.Option(min=100, help="bootstrap resamples behind the intervals")] = 1000,
) -> None:
    """What differs between two evaluations beyond noise, and how many instances would show the rest.

    Both must have been played with the same --seed: they are compared instance by instance. Intervals are 95 %, by the
    bootstrap over instances (and over training seeds, where a side has several); "clear" holds for all rows together.
    """
    from marft.eval.compare import compare as find
    from marft.eval.compare import load_played

    sides = [[load_played(one) for one in side.split(",")] for side in (ours, theirs)]
    found = find(*sides, metrics=metric, resamples=resamples)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    games = len({one.game for one in found}) > 1
    for heading in (
        *("game",) * games,
        "against",
        "metric",
        ours,
        theirs,
        "difference",
        "clear",
        "instances that would show it",
    ):
        table.add_column(heading, justify="left" if heading in ("game", "against", "metric", "clear") else "right")
    for one in found:
        needed = "" if one.needed is None else f"{one.needed:,} (of {one.instances})"
        change = f"{one.difference:+.3g} ({one.low:.3g} to {one.high:.3g})"
        style = "bold" if one.clear else "dim"
        cells = (one.opponent, one.metric, f"{one.ours:.3g}", f"{one.theirs:.3g}", change, "yes" * one.clear, needed)
        table.add_row(*(one.game,) * games, *cells, style=style)
    Console().print(table)
    clear = sum(one.clear for one in found)
    Console(stderr=True).print(f"{clear} of {len(found)} differ beyond noise", highlight=False)
