"""`marft publish` and `marft load`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from marft.errors import RecipeError
from marft.quiet import quiet_libraries


def register(app: typer.Typer) -> None:
    """Add both commands."""
    app.command()(publish)
    app.command()(load)


def publish(
    run: Annotated[Path, typer.Argument(help="a run folder", show_default=False)],
    to: Annotated[Path, typer.Option(help="the folder to write")] = Path("published"),
    results: Annotated[Path | None, typer.Option(help="results.json of marft eval, for the card's table")] = None,
    with_base: Annotated[
        bool | None,
        typer.Option("--with-base/--without-base", help="put the base model in; default: the tiny one only"),
    ] = None,
    merged: Annotated[
        bool, typer.Option("--merged", help="also each agent as one model, base and adapter in one")
    ] = False,
    licence: Annotated[str | None, typer.Option(help="licence of the adapters, such as apache-2.0")] = None,
    repo: Annotated[
        str | None, typer.Option(help="USER/NAME on the hub; says what would be sent, unless --yes")
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="the repository is not private")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="really send it")] = False,
) -> None:
    """Write a trained team as a folder that anyone can load: PEFT adapters, team.json, a model card.

    Nothing leaves this machine unless --repo and --yes are both given. HF_TOKEN is the hub's key.
    """
    if yes and repo is None:
        raise RecipeError("publish: --yes sends to the hub; name the repository with --repo USER/NAME")
    quiet_libraries()
    from marft.publish.folder import publish as write
    from marft.publish.hub import files_of, upload

    console = Console(stderr=True)
    folder = write(run, to, results=results, with_base=with_base, merged=merged, licence=licence)
    files = files_of(folder)
    for name, size in files:
        console.print(f"{size:>12,}  {name}", highlight=False, markup=False)
    console.print(f"{len(files)} files are in {folder}", highlight=False, soft_wrap=True)
    if repo is None:
        return
    if not yes:
        total = sum(size for _, size in files)
        console.print(f"nothing was sent; --yes sends these {total:,} bytes to {repo}", highlight=False, soft_wrap=True)
        return
    console.print(f"sent: {upload(folder, repo, private=not public)}", highlight=False, soft_wrap=True)


def load(
    folder: Annotated[Path, typer.Argument(help="a folder of marft publish", show_default=False)],
    seed: Annotated[int, typer.Option(min=0, help="of the instance and of sampling")] = 0,
) -> None:
    """Check a published team against what it says of itself, and play one episode with it.

    To measure it: marft eval own --team FOLDER. To sit down with it: marft play GAME --run FOLDER.
    """
    quiet_libraries()
    from marft.publish.play import play_published
    from marft.show import print_steps

    console = Console()
    episode = play_published(folder, seed)
    print_steps(episode, console)
    returns = "  ".join(f"{seat} {value:g}" for seat, value in episode.returns().items())
    console.print(f"return  {returns}", highlight=False, markup=False)
