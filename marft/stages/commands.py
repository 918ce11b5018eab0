"""The commands marft sft and marft dpo: flags to settings, a table of what there is to train, and the stage.

marft data, the third one, stands in data.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from marft.errors import RecipeError
from marft.quiet import quiet_libraries

if TYPE_CHECKING:
    from marft.config import Recipe

RecipePath = Annotated[Path, typer.Argument(help="the recipe, a YAML file", show_default=False)]
Overrides = Annotated[list[str] | None, typer.Argument(help="changes to the recipe, key.sub=value", show_default=False)]
Episodes = Annotated[
    list[Path],
    typer.Option("--episodes", help="a run, a folder, or a .parquet or .jsonl file of episodes; may be repeated"),
]
Agents = Annotated[
    list[str] | None,
    typer.Option("--agent", help="an agent to train; may be repeated; default all", show_default=False),
]
Out = Annotated[
    Path | None, typer.Option(help="the folder to write; default runs/<recipe>-<stage>", show_default=False)
]
Seats = Annotated[
    list[str] | None,
    typer.Option("--seat", help="only what was said on this seat; may be repeated", show_default=False),
]
Steps = Annotated[str | None, typer.Option(help="only these steps of the game: 3, 2-5 or 2-", show_default=False)]
ValidOnly = Annotated[bool, typer.Option("--valid-only", help="no answers that the game could not read")]
BySeat = Annotated[
    bool,
    typer.Option(
        "--by-seat",
        help="an agent learns what was said on the seats that the recipe gives it, whoever spoke; "
        "default: what it said itself",
    ),
]
Reward = Annotated[
    str, typer.Option(help="whose reward counts: the seat's [bold]own[/], or all seats' sum, [bold]team[/]")
]
Above = Annotated[
    float | None,
    typer.Option(
        help="only turns whose node in the tree is worth more; of a pair the chosen one must be, the rejected one not",
        show_default=False,
    ),
]
Rate = Annotated[float, typer.Option(help="of AdamW; its other settings are those of the recipe's optimizer")]
Batch = Annotated[int, typer.Option(min=1, help="rows, or pairs, per optimizer step")]
Micro = Annotated[int | None, typer.Option(min=1, help="of these per forward pass; default all", show_default=False)]
Seed = Annotated[int, typer.Option(min=0, help="seed of the order, and of what --max-pairs draws")]
Checkpointing = Annotated[
    bool, typer.Option("--checkpointing", help="keep no activations for the backward pass: less memory, more time")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="write over an earlier stage in the folder")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="count what would be trained, and stop")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    from marft.stages.data import data

    app.command()(sft)
    app.command()(dpo)
    app.command()(data)


def sft(
    recipe: RecipePath,
    episodes: Episodes,
    overrides: Overrides = None,
    agent: Agents = None,
    out: Out = None,
    min_reward: Annotated[
        float | None, typer.Option(help="only episodes that earned the seat this much", show_default=False)
    ] = None,
    top_share: Annotated[
        float | None,
        typer.Option(help="only this share of each instance's episodes, the best ones", show_default=False),
    ] = None,
    above: Above = None,
    reward: Reward = "own",
    seat: Seats = None,
    steps: Steps = None,
    valid_only: ValidOnly = False,
    by_seat: BySeat = False,
    epochs: Annotated[float, typer.Option(help="passes over the rows")] = 3.0,
    learning_rate: Rate = 2e-4,
    batch_size: Batch = 16,
    micro_batch: Micro = None,
    seed: Seed = 0,
    checkpointing: Checkpointing = False,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
) -> None:
    """Fine-tune agents on recorded episodes, the good ones say (needs marft\\[offline]).

    Each agent's adapter is trained by TRL on the very token ids that were
    sampled, the loss on its own completions alone. It starts fresh, or from
    agents.NAME.start_from. What is written, OUT/adapters/NAME, is a plain PEFT
    folder for agents.NAME.start_from of the next stage or run.

    [bold]marft sft RECIPE --episodes runs/demo/naive --top-share 0.25 --out runs/warm[/]
    [bold]marft train RECIPE agents.alice.start_from=runs/warm/adapters/alice[/]
    """
    from marft.recipe import load_recipe
    from marft.stages.select import sft_rows
    from marft.stages.settings import Settings

    if top_share is not None and not 0 < top_share <= 1:
        raise RecipeError(f"--top-share must be above 0 and at most 1, got {top_share}")
    settings = Settings("sft", epochs, learning_rate, batch_size, micro_batch, seed, checkpointing)
    loaded = load_recipe(recipe, overrides or ())
    rest = {"min_reward": min_reward, "top_share": top_share, "above": above}
    filters = _filters(loaded, reward, seat, steps, valid_only, by_seat, **rest)
    batches = _batches(episodes, loaded)
    rows = sft_rows(batches, filters)
    data = {name: rows.get(name, []) for name in _chosen(loaded, agent)}
    described = _described(episodes, batches, {**rest, "steps": steps, **_common(reward, seat, valid_only, by_seat)})
    _run(loaded, data, out, settings, described, overwrite, dry_run)


def dpo(
    recipe: RecipePath,
    episodes: Episodes,
    overrides: Overrides = None,
    agent: Agents = None,
    out: Out = None,
    margin: Annotated[float, typer.Option(min=0, help="by how much the chosen one must be worth more")] = 0.0,
    worth: Annotated[
        str,
        typer.Option(
            help="what a completion is worth: the episode's [bold]return[/], its node's [bold]value[/] in the tree, or "
            "what its own [bold]step[/] paid"
        ),
    ] = "return",
    above: Above = None,
    max_pairs: Annotated[
        int | None, typer.Option(min=1, help="of each agent, drawn at random; default all", show_default=False)
    ] = None,
    reward: Reward = "own",
    seat: Seats = None,
    steps: Steps = None,
    valid_only: ValidOnly = False,
    by_seat: BySeat = False,
    beta: Annotated[float, typer.Option(help="how strongly the adapter is held to the reference")] = 0.1,
    reference: Annotated[
        str, typer.Option(help="[bold]start[/], the adapter that training starts from, or [bold]base[/]")
    ] = "start",
    sft_weight: Annotated[
        float, typer.Option(min=0, help="this much of the chosen completions' negative log-prob is added to the loss")
    ] = 0.0,
    epochs: Annotated[float, typer.Option(help="passes over the pairs")] = 1.0,
    learning_rate: Rate = 1e-5,
    batch_size: Batch = 16,
    micro_batch: Micro = None,
    seed: Seed = 0,
    checkpointing: Checkpointing = False,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
) -> None:
    """Teach agents to prefer what paid, by pairs out of recorded episodes (needs marft\\[offline]).

    A pair is two completions of one seat of one group after the same context,
    id for id: siblings in a tree, first turns of a group's episodes, and so on.
    Each is worth the mean over all episodes through it; the better is chosen.
    TRL trains each agent's adapter, fresh or from agents.NAME.start_from.

    [bold]marft dpo RECIPE --episodes runs/trees --margin 0.5 --out runs/preferred[/]
    """
    from marft.recipe import load_recipe
    from marft.stages.pairs import at_most, preference_pairs
    from marft.stages.settings import Settings

    one_of("--worth", worth, ("return", "value", "step"))
    one_of("--reference", reference, ("start", "base"))
    common = (epochs, learning_rate, batch_size, micro_batch, seed, checkpointing)
    settings = Settings("dpo", *common, beta, reference, sft_weight)
    loaded = load_recipe(recipe, overrides or ())
    filters = _filters(loaded, reward, seat, steps, valid_only, by_seat, above=above)
    batches = _batches(episodes, loaded)
    pairs = at_most(preference_pairs(batches, filters, margin=margin, by=worth), max_pairs, seed)
    data = {name: pairs.get(name, []) for name in _chosen(loaded, agent)}
    flags = {"margin": margin, "worth": worth, "above": above, "max_pairs": max_pairs, "steps": steps}
    described = _described(episodes, batches, {**flags, **_common(reward, seat, valid_only, by_seat)})
    _run(loaded, data, out, settings, described, overwrite, dry_run)


def _filters(
    recipe: Recipe,
    reward: str,
    seat: Sequence[str] | None,
    steps: str | None,
    valid_only: bool,
    by_seat: bool,
    **rest: Any,
) -> Any:
    from marft.lookup import nearest
    from marft.stages.select import Filters, read_steps

    one_of("--reward", reward, ("own", "team"))
    for name in seat or ():
        if name not in recipe.team:
            raise RecipeError(f"--seat: {recipe.game.name} has no seat {name!r}{nearest(name, recipe.team)}")
    seats = {name: filled.own.agent for name, filled in recipe.team.items() if filled.own.agent} if by_seat else None
    only = tuple(seat or ())
    return Filters(seats, reward, only_seats=only, steps=read_steps(steps), valid_only=valid_only, **rest)


def one_of(flag: str, value: str, known: Sequence[str]) -> None:
    """RecipeError for a flag's value that is none of those known."""
    from marft.lookup import nearest

    if value not in known:
        raise RecipeError(f"{flag}: cannot be {value!r}{nearest(value, known)}")


def _chosen(recipe: Recipe, names: Sequence[str] | None) -> list[str]:
    from marft.lookup import nearest

    for name in names or ():
        if name not in recipe.agents:
            raise RecipeError(f"--agent: no agent {name!r}{nearest(name, recipe.agents)}")
    return list(dict.fromkeys(names or recipe.agents))


def _batches(paths: Sequence[Path], recipe: Recipe) -> list[Any]:
    from marft.stages.sources import read_batches

    with Console(stderr=True).status("reading episodes"):
        return read_batches(paths, recipe)


def _common(reward: str, seat: Sequence[str] | None, valid_only: bool, by_seat: bool) -> dict[str, Any]:
    return {"reward": reward, "seats": list(seat or ()), "valid_only": valid_only, "by_seat": by_seat}


def _described(paths: Sequence[Path], batches: Sequence[Any], filters: Mapping[str, Any]) -> dict[str, Any]:
    """What stage.json says of the data."""
    played = sum(len(batch.episodes) for batch in batches)
    return {"episodes": {"from": [str(path) for path in paths], "files": len(batches), "count": played}} | {
        "filters": dict(filters)
    }


def _run(
    recipe: Recipe,
    data: Mapping[str, Sequence],
    out: Path | None,
    settings: Any,
    described: Mapping[str, Any],
    overwrite: bool,
    dry_run: bool,
) -> None:
    quiet_libraries()
    if dry_run:
        from marft.stages import dpo, sft

        lesson = sft if settings.kind == "sft" else dpo
        count = described["episodes"]["count"]
        _print(
            Console(), f"{settings.kind}: {count} episodes", {name: lesson.counts(own) for name, own in data.items()}
        )
        return
    from marft.stages.stage import run_stage

    folder = out or Path("runs") / f"{recipe.name}-{settings.kind}"
    console = Console(stderr=True)
    with _progress(console) as progress:
        stage = run_stage(recipe, data, folder, settings, described, overwrite=overwrite, progress=progress)
    agents = {}
    for name, report in stage["agents"].items():
        after = report["after"]
        moved = {key: f"{before:.3f} → {after[key]:.3f}" for key, before in report["before"].items()}
        agents[name] = {"steps": report["steps"], "seconds": report["seconds"], **moved}
    _print(Console(), settings.kind, agents)
    console.print(f"adapters and stage.json are in {folder}", highlight=False, soft_wrap=True)


def _print(console: Console, title: str, agents: Mapping[str, Mapping[str, Any]]) -> None:
    """One line per agent."""
    columns = list(dict.fromkeys(key for report in agents.values() for key in report))
    table = Table("agent", *columns, title=title)
    for name, report in agents.items():
        values = (f"{value:.3g}" if isinstance(value, float) else str(value) for value in report.values())
        table.add_row(name, *values)
    console.print(table)


@contextmanager
def _progress(console: Console) -> Iterator[Progress]:
    """A bar per agent, counting optimizer steps."""
    bars = (BarColumn(bar_width=20), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(TextColumn("[bold]{task.description}"), *bars, console=console) as progress:
        yield progress
