"""`marft eval` and `marft compare`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from marft.errors import RecipeError
from marft.quiet import quiet_libraries

SIDE = "FOLDER of marft eval, or FOLDER:TEAM; of several training seeds, separated by commas"


def register(app: typer.Typer) -> None:
    """Add both commands."""
    app.command("eval")(evaluate)
    app.command()(compare)


def evaluate(
    suite: Annotated[
        str | None,
        typer.Argument(help="a built-in suite (--list), or a YAML file of your own", show_default=False),
    ] = None,
    team: Annotated[
        list[str] | None,
        typer.Option(help="NAME=WHAT or WHAT; repeatable", show_default=False),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(help="scripted players, comma-separated; [bold]all[/] or [bold]none[/]", show_default=False),
    ] = None,
    episodes: Annotated[int | None, typer.Option(min=1, help="instances per match; default 64 mostly")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="sampling seeds: how often each instance is played")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="seed of instances and sampling; default 0")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="only the first so many instances")] = None,
    out: Annotated[Path | None, typer.Option(help="folder for results and episodes; default runs/eval")] = None,
    recipe: Annotated[
        Path | None, typer.Option(help="for folders of adapters: gives game, seats and base", show_default=False)
    ] = None,
    resamples: Annotated[int | None, typer.Option(min=20, help="bootstrap resamples; default 200")] = None,
    split: Annotated[
        str | None, typer.Option(help="train or test: of the tasks, where a game asks questions; default test")
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", help="any key of the evaluation, key.sub=value; repeatable", show_default=False),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="play only what is missing in the folder")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="empty a folder that holds an evaluation")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="print matches, episodes and tokens; load nothing")
    ] = False,
    rescore: Annotated[
        Path | None,
        typer.Option(help="a finished evaluation: results.json again from its episodes", show_default=False),
    ] = None,
    inspect: Annotated[
        Path | None, typer.Option(help="also write a log for Inspect, a .json file", show_default=False)
    ] = None,
    show: Annotated[bool, typer.Option("--list", help="list the built-in suites")] = False,
) -> None:
    """Measure teams: a suite of games, the same instances for all, seats swapped, intervals.

    WHAT is a run folder, a published one, a folder of adapters (with --recipe), a model ([bold]tiny[/], a folder,
    model:NAME of the hub), an endpoint (https://host/v1#MODEL), or a scripted player (script:TFT, script:mcts(300)).
    The folder gets results.json, the episodes and config.yaml, which is a suite again.

    [bold]marft eval own --team runs/mine --against TFT,AllD[/]
    [bold]marft eval social --team runs/mine --team base=tiny --dry-run[/]
    [bold]marft eval cross_play --team a=runs/a --team b=runs/b --team c=script:Grim[/]
    [bold]marft eval my_suite.yaml --set options.rounds=5 --resume[/]
    """
    from marft.eval.evaluation import load_evaluation, suites

    console = Console(stderr=True)
    if show:
        for name, about in suites().items():
            Console().print(f"{name:<12}{about}", highlight=False, markup=False, soft_wrap=True)
        return
    quiet_libraries()
    if rescore is not None:
        from marft.eval.arena import rescore as again

        _tell(again(rescore, resamples), rescore, console, inspect)
        return
    if suite is None:
        raise RecipeError(f"eval: name a suite: {', '.join(suites())}, or a YAML file (marft eval --list)")
    flags: dict[str, Any] = {"against": against, "episodes": episodes, "seeds": seeds, "seed": seed, "limit": limit}
    flags |= {"resamples": resamples, "split": split, "teams": _teams(team or ())}
    flags |= {"out": str(out) if out is not None else None, "recipe": str(recipe) if recipe is not None else None}
    evaluation = load_evaluation(suite, flags, changes or ())
    if dry_run:
        from marft.eval.dry import print_dry
        from marft.eval.teams import load_teams

        print_dry(evaluation, load_teams(evaluation), Console())
        return
    from marft.eval.arena import run

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("episodes", total=None)
        results = run(
            evaluation,
            resume=resume,
            overwrite=overwrite,
            tell=lambda done, total: progress.update(bar, completed=done, total=total),
        )
    _tell(results, Path(evaluation.out), console, inspect)


def _teams(given: Sequence[str]) -> dict[str, Any]:
    """name -> source; a team without a name is called by the last part of its source."""
    from marft.eval.evaluation import spec_of

    found: dict[str, Any] = {}
    for text in given:
        name, equals, what = text.partition("=")
        if not equals or "/" in name or ":" in name:
            what = text
            name = text.partition("#")[2] or text.rstrip("/").rpartition("/")[2]
            name = name.rpartition(":")[2]
        if name in found:
            raise RecipeError(f"--team: two teams have the same name {name}; give them names as NAME=WHAT")
        found[name] = spec_of(what)
    return found


def _tell(results: dict[str, Any], out: Path, console: Console, inspect: Path | None) -> None:
    from marft.eval.results import print_summary, print_table

    print_table(results, Console())
    print_summary(results, Console())
    console.print(f"results are in {out / 'results.json'}", highlight=False, soft_wrap=True)
    if inspect is not None:
        from marft.eval.inspect_log import write_inspect

        write_inspect(out, results, inspect)
        console.print(f"the log for Inspect is {inspect}", highlight=False, soft_wrap=True)


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
