"""`marft report` and `marft watch`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from marft.errors import RecipeError

RUNS = "run folders, or NAME=FOLDER; several seeds as GROUP=FOLDER,FOLDER,…"
Folders = Annotated[list[str] | None, typer.Argument(help=RUNS, show_default=False)]
Results = Annotated[Path | None, typer.Option(help="results.json of marft eval, for the evaluation part")]
Title = Annotated[str | None, typer.Option(help="headline of the report")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(report)
    app.command()(watch)


def report(
    runs: Folders = None,
    out: Annotated[Path, typer.Option(help="the HTML file to write")] = Path("runs/report.html"),
    results: Results = None,
    title: Title = None,
) -> None:
    """Write one self-contained HTML file: learning curves, evaluation, every episode.

    Runs that differ in nothing but their seed are drawn as one line in a band.

    [bold]marft report runs/naive runs/ad_align --out both.html[/]
    [bold]marft report base=runs/a0,runs/a1,runs/a2 mine=runs/b0,runs/b1,runs/b2[/]
    """
    from marft.report.write import write_report

    out = write_report(named(runs or ()), out, results=results, title=title)
    Console(stderr=True).print(f"the report is {out}", highlight=False, soft_wrap=True)


def watch(
    runs: Folders = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="of 127.0.0.1; 0 for any that is free")] = 8765,
    open_: Annotated[bool, typer.Option("--open", help="open it in the browser")] = False,
    results: Results = None,
    title: Title = None,
) -> None:
    """The same page, on this machine alone, following runs while they train. Ctrl-C ends it.

    [bold]marft watch runs/mine[/]
    """
    import webbrowser

    from marft.report.watch import HOST, Live, make_server

    console = Console(stderr=True)
    console.print("reading the runs", highlight=False)
    with make_server(Live(named(runs or ()), results, title), port) as server:
        address = f"http://{HOST}:{server.server_address[1]}/"
        try:
            console.print(f"watching on {address} until Ctrl-C", highlight=False, soft_wrap=True)
            if open_:
                webbrowser.open(address)
            server.serve_forever()
        except KeyboardInterrupt:
            console.print("no longer watching; the runs go on", highlight=False)


def named(arguments: list[str]) -> dict[str, Path | list[Path]]:
    """NAME=FOLDER, GROUP=FOLDER,FOLDER, or a folder that is its own name; two of one name take in the folder above."""
    found: dict[str, Path | list[Path]] = {}
    for text in arguments:
        name, equals, folders = text.partition("=")
        if not equals:
            path = Path(text).resolve()
            name = path.name if path.name not in found else f"{path.parent.name}/{path.name}"
            place: Path | list[Path] = Path(text)
        else:
            several = [Path(folder) for folder in folders.split(",") if folder]
            place = several if len(several) > 1 else several[0] if several else Path(folders)
        if not name or not str(text).rpartition("=")[2]:
            raise RecipeError(f"runs: {text!r} is no run; write FOLDER, NAME=FOLDER or GROUP=FOLDER,FOLDER")
        if name in found:
            raise RecipeError(f"runs: two of them are called {name!r}; name them, NAME=FOLDER")
        found[name] = place
    return found
