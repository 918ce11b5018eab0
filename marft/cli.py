"""The command line: marft train | sft | dpo | data | eval | exploit | report | show | games | play | algorithms | ….

Commands only read flags, call the library and print. A MarftError becomes one clear message and its own exit code;
`--debug` shows the traceback instead. Heavy imports stand inside the commands, so that --help is quick.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from marft import __version__
from marft.errors import MarftError, RecipeError
from marft.eval import commands as comparing
from marft.publish import commands as publishing
from marft.quiet import quiet_libraries
from marft.report import commands as reporting
from marft.stages import commands as stages

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Fine-tune teams of language-model agents with multi-agent reinforcement learning.",
)

RecipePath = Annotated[Path, typer.Argument(help="the recipe, a YAML file", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        help="changes to the recipe, key.sub=value, e.g. [bold]train.updates=20 seed=3[/]", show_default=False
    ),
]


def main() -> None:
    """Entry point: run a command, turn a user's error into a message and an exit code."""
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")
    logging.basicConfig(level=logging.DEBUG if debug else logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("marft").setLevel(logging.INFO)
    try:
        app(standalone_mode=True)
    except MarftError as error:
        if debug:
            raise
        Console(stderr=True).print(f"error: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        Console(stderr=True).print("interrupted; what was saved is whole, go on with --resume", style="yellow")
        sys.exit(130)


@app.callback(invoke_without_command=True)
def _about(version: Annotated[bool, typer.Option("--version", help="print the version and stop")] = False) -> None:
    if version:
        typer.echo(f"marft {__version__}")
        raise typer.Exit


@app.command()
def train(
    recipe: RecipePath,
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option(help="run folder; default runs/<the recipe's name>")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="go on from the newest checkpoint in the run folder")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="empty a run folder that holds a run")] = False,
    replay: Annotated[
        Path | None,
        typer.Option(help="a run folder: train on its episodes, without engine and play", show_default=False),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print the resolved recipe and what it costs")] = False,
) -> None:
    """Train the agents of a recipe.

    Runs in one process, or in several by [bold]accelerate launch -m marft train RECIPE[/] (on the CPU
    with --config_file recipes/accelerate/cpu2.yaml). The run folder holds the
    resolved recipe, metrics.jsonl, the episodes, checkpoints and, in adapters/, plain PEFT folders. A run that was
    stopped, by whatever, goes on with --resume.
    """
    from marft.recipe import dump_recipe, load_recipe

    loaded = load_recipe(recipe, overrides or ())
    if dry_run:
        quiet_libraries()
        from marft.plan import print_plan

        typer.echo(dump_recipe(loaded))
        print_plan(loaded, Console())
        return
    if loaded.remotes:
        from marft.engines.remote import check_keys, remotes_of

        check_keys(remotes_of(loaded))
    quiet_libraries()
    from marft.train.loop import train as run

    folder = run(loaded, out or Path("runs") / loaded.name, resume=resume, overwrite=overwrite, replay=replay)
    if os.environ.get("RANK", "0") == "0":
        Console(stderr=True).print(f"adapters, metrics and episodes are in {folder}", highlight=False, soft_wrap=True)


stages.register(app)
comparing.register(app)
publishing.register(app)
reporting.register(app)


@app.command()
def exploit(
    runs: Annotated[list[Path], typer.Argument(help="run folders; with --recipe also adapter folders")],
    recipe: Annotated[
        Path | None, typer.Option(help="recipe that gives game and base where folders hold only adapters")
    ] = None,
    checkpoints: Annotated[bool, typer.Option("--checkpoints", help="at every checkpoint that the runs kept")] = False,
) -> None:
    """Exact exploitability of trained teams in a game of OpenSpiel (Kuhn and Leduc poker, liar's dice, …).

    The model is asked for the probability of every answer at every information state, at temperature 1; nothing is
    sampled. NashConv is what both seats together could gain by best responses; 0 is an equilibrium.
    """
    quiet_libraries()
    from rich.table import Table

    from marft.eval.text_policy import exploitability_by_update, exploitability_of

    if checkpoints and recipe is not None:
        raise RecipeError("--checkpoints are those of a run folder, which has its own recipe; leave --recipe out")
    table = Table("run", *(["updates"] * checkpoints), "NashConv", "exploitability", "value of the first player")
    for run in runs:
        found = exploitability_by_update(run) if checkpoints else {None: exploitability_of(run, recipe)}
        for updates, one in found.items():
            figures = (f"{x:.4f}" for x in (one.nash_conv, one.exploitability, one.value[0]))
            table.add_row(str(run), *([str(updates)] * checkpoints), *figures)
    Console().print(table)


@app.command()
def show(
    path: Annotated[Path, typer.Argument(help="a run folder, or a .parquet or .jsonl file of episodes")],
    update: Annotated[int | None, typer.Option(help="only this update's episodes")] = None,
    episode: Annotated[str | None, typer.Option(help="only the episode with this id")] = None,
    limit: Annotated[int, typer.Option(min=1, help="how many episodes at most")] = 3,
    sort: Annotated[str, typer.Option(help="id, best or worst (by return)")] = "id",
    tokens: Annotated[bool, typer.Option("--tokens", help="also show token ids with their log-probabilities")] = False,
) -> None:
    """Print episodes readably: who saw what, said what, did what, earned what."""
    from marft.show import show_episodes

    console = Console()
    show_episodes(path, update=update, episode=episode, limit=limit, tokens=tokens, sort=sort, console=console)


Changes = Annotated[
    list[str] | None,
    typer.Argument(
        help="changes to the game's options, key=value, e.g. [bold]rounds=3 payoffs.T=4[/]", show_default=False
    ),
]
Options = Annotated[
    list[str] | None,
    typer.Option("--options", help="the same as a flag, key=value; may be repeated", show_default=False),
]


@app.command()
def games(
    name: Annotated[
        str | None,
        typer.Argument(help="a game: its name, or path/to/file.py:Class of your own", show_default=False),
    ] = None,
    changes: Changes = None,
    options: Options = None,
    seed: Annotated[int, typer.Option(min=0, help="seed of the instance and of the players")] = 0,
    steps: Annotated[int, typer.Option(min=1, help="how many steps of the episode are shown")] = 3,
) -> None:
    """List the games, or tell all about one.

    Of one game: the rules as its seats are told them, every option with its
    meaning, scripted players, metrics, an episode between scripted players.

    [bold]marft games[/]                                all games
    [bold]marft games public_goods[/]                   one of them
    [bold]marft games public_goods seats=3 talk=true[/] the same, changed
    [bold]marft games ./my_game.py:MyGame[/]            your own
    """
    from marft.catalogue import print_game, print_games

    if name is None:
        print_games(Console())
    else:
        print_game(name, [*(changes or ()), *(options or ())], Console(), seed=seed, steps=steps)


@app.command()
def play(
    name: Annotated[str, typer.Argument(help="a game: its name, or path/to/file.py:Class", show_default=False)],
    changes: Changes = None,
    options: Options = None,
    seat: Annotated[str | None, typer.Option(help="your seat; default the first", show_default=False)] = None,
    against: Annotated[
        str | None,
        typer.Option(help="scripted players for the other seats, comma-separated; default random", show_default=False),
    ] = None,
    run: Annotated[
        Path | None, typer.Option(help="a run folder; its agents take the other seats", show_default=False)
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="seed of the instance; default any", show_default=False)
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="add the episode to this .jsonl file, for marft show", show_default=False)
    ] = None,
) -> None:
    """Play a game yourself, against scripted players or a trained run.

    You see what your seat is told, word for word, as an agent in it would;
    then what all did and earned. One line is one answer. Ctrl-D leaves.

    [bold]marft play prisoners_dilemma --against TFT[/]
    [bold]marft play prisoners_dilemma --run runs/demo/ad_align --seat bob[/]
    [bold]marft play public_goods seats=3 rounds=2 --against half,full[/]
    [bold]printf '<A>\\n<B>\\n' | marft play stag_hunt rounds=2 --out me.jsonl[/]
    """
    import secrets

    from marft.keys import read_changes
    from marft.opponents import scripted_table, trained_table
    from marft.play import play as play_episode
    from marft.play import read_line

    if run is not None and against is not None:
        raise RecipeError("--against and --run both fill the other seats; give one of them")
    if hasattr(sys.stdin, "reconfigure"):
        sys.stdin.reconfigure(errors="replace")  # a byte that is no text makes an unreadable answer, not a crash
    chosen = read_changes([*(changes or ()), *(options or ())])
    if run is not None:
        quiet_libraries()
        table = trained_table(name, chosen, seat, run)
    else:
        table = scripted_table(name, chosen, seat, against)
    play_episode(table, secrets.randbelow(2**31) if seed is None else seed, Console(), ask=read_line, out=out)
    if out is not None:
        Console(stderr=True).print(f"the episode is in {out}", highlight=False, soft_wrap=True)


@app.command("new-game")
def new_game(
    name: Annotated[str, typer.Argument(help="lower-case words joined by _, e.g. coin_flip", show_default=False)],
    out: Annotated[Path, typer.Option(help="the folder to write to")] = Path("."),
) -> None:
    """Write a game of your own, to start from: NAME.py and test_NAME.py.

    Both work at once. The game is a whole small one with every part in its
    place; the test checks what every game must keep, and the payoffs. Change
    them bit by bit. Nothing that exists is overwritten.
    """
    from marft.scaffold import new_game as write

    game, test, cls = write(name, out)
    place = game if game.is_absolute() else f"./{game}"
    lines = [
        f"wrote {game} and {test}",
        "",
        f"pytest {test}",
        f"marft games {place}:{cls}",
        f"marft play {place}:{cls}",
    ]
    lines.append(f"in a recipe, game: {{name: {place}:{cls}, rounds: 5}}")
    Console().print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)


@app.command()
def serve(
    recipe: RecipePath,
    overrides: Overrides = None,
    out: Annotated[Path, typer.Option(help="the servers' logs go here")] = Path("runs/servers"),
    urls_file: Annotated[
        Path | None, typer.Option(help="write the servers' addresses here, for engine.urls_file", show_default=False)
    ] = None,
) -> None:
    """Start a recipe's vLLM servers on their own, and watch them until Ctrl-C.

    They serve the recipe's base, with room for all its agents' adapters, on
    127.0.0.1. A training with engine: {kind: vllm, urls: [...]} feeds them.
    Servers that die are started again; none is left over at the end.

    [bold]marft serve RECIPE engine.launch.replicas=2[/]
    """
    from marft.recipe import load_recipe

    quiet_libraries()
    from marft.serve.run import serve as run

    changes = list(overrides or ())
    if any(change.startswith("engine.launch") for change in changes):
        changes.insert(0, "engine.kind=vllm")
    run(load_recipe(recipe, changes), out, Console(), urls_file=urls_file)


@app.command()
def doctor() -> None:
    """Look at this machine: torch, GPUs, vLLM, conflicting packages, memory, ports; and say how to mend each.

    Ends with status 1 where something is bad.
    """
    quiet_libraries()
    from marft.serve.doctor import facts, judge, print_findings

    if not print_findings(judge(facts()), Console()):
        raise typer.Exit(1)


@app.command("algorithms")
def algorithms(
    name: Annotated[str | None, typer.Argument(help="a preset, to explain it with its formulas")] = None,
) -> None:
    """List the algorithms with their settings and sources, or explain one."""
    from marft.credit.describe import print_algorithms

    print_algorithms(name, Console())


def _named(text: str) -> tuple[str, Path]:
    """NAME=FOLDER, or a folder that is its own name."""
    name, equals, folder = text.partition("=")
    return (name, Path(folder)) if equals else (Path(text).resolve().name, Path(text))
