"""The command marft data: recorded episodes to a folder that `datasets` loads and TRL trains on.

train.parquet (or .jsonl)   the rows
README.md                   which of the files hold data, for `datasets.load_dataset(FOLDER)`, and what they are
about.json                  where the rows came from and how they were chosen
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from marft.errors import RecipeError, RunFolderError
from marft.stages.commands import Above, Reward, Seats, Steps, ValidOnly, one_of

ABOUT = "about.json"
SCHEMA = 1
CARD = """---
configs:
- config_name: default
  data_files: {file}
---

{rows} rows of kind `{kind}` out of {episodes} episodes, written by `marft data`; {about} says from where, and by which
filters.

```python
import datasets

datasets.load_dataset("{folder}", split="train")
```
"""


def data(
    runs: Annotated[
        list[Path], typer.Argument(help="runs, folders, or .parquet or .jsonl files of episodes", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="the folder to write")] = Path("runs/data"),
    kind: Annotated[
        str,
        typer.Option(
            "--as",
            help="[bold]turns[/] (prompt, completion and all that is known of each), [bold]episodes[/], "
            "[bold]sft[/] (messages) or [bold]dpo[/] (prompt, chosen, rejected)",
        ),
    ] = "turns",
    form: Annotated[str, typer.Option("--format", help="[bold]parquet[/] or [bold]jsonl[/]")] = "parquet",
    agent: Annotated[
        list[str] | None, typer.Option("--agent", help="only this agent; may be repeated", show_default=False)
    ] = None,
    everyone: Annotated[
        bool, typer.Option("--everyone", help="also what scripted, frozen and remote policies said, by their names")
    ] = False,
    seat: Seats = None,
    steps: Steps = None,
    updates: Annotated[
        str | None, typer.Option(help="only these updates of the run: 3, 2-5 or 2-", show_default=False)
    ] = None,
    versions: Annotated[
        str | None, typer.Option(help="only what these versions of an agent said: 3, 2-5 or 2-", show_default=False)
    ] = None,
    status: Annotated[
        str, typer.Option(help="of the episodes: done, partial and failed, comma-separated (turns and episodes only)")
    ] = "done",
    valid_only: ValidOnly = False,
    reward: Reward = "own",
    min_reward: Annotated[
        float | None, typer.Option(help="only episodes that earned the seat this much", show_default=False)
    ] = None,
    top_share: Annotated[
        float | None, typer.Option(help="only this share of each instance's episodes", show_default=False)
    ] = None,
    above: Above = None,
    margin: Annotated[float, typer.Option(min=0, help="of a pair, by how much the chosen one must be worth more")] = 0,
    worth: Annotated[
        str, typer.Option(help="of a pair: the episode's [bold]return[/], the node's [bold]value[/], or its own step")
    ] = "return",
    max_pairs: Annotated[
        int | None, typer.Option(min=1, help="of each agent, drawn at random", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="seed of what --max-pairs draws")] = 0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="write over an earlier data set in the folder")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="count the rows, and stop")] = False,
) -> None:
    """Turn episodes into a data set: turns, episodes, or what TRL trains on.

    The rows hold texts, so any model can learn from them; `marft sft` and
    `marft dpo` train the run's own model on the very ids that were sampled.

    [bold]marft data runs/demo/naive --as sft --top-share 0.25 --out runs/best[/]
    [bold]marft data runs/trees --as dpo --worth value --above 0.5 --format jsonl[/]
    """
    from marft.stages.export import STATUSES
    from marft.stages.select import Filters, read_steps
    from marft.stages.sources import read_batches

    one_of("--as", kind, ("turns", "episodes", "sft", "dpo"))
    one_of("--format", form, ("parquet", "jsonl"))
    one_of("--worth", worth, ("return", "value", "step"))
    one_of("--reward", reward, ("own", "team"))
    statuses = [name.strip() for name in status.split(",") if name.strip()]
    for name in statuses:
        one_of("--status", name, STATUSES)
    if kind in ("sft", "dpo") and statuses != ["done"]:
        raise RecipeError(f"--status {status}: sft and dpo sets are made of finished episodes; leave it out")
    if top_share is not None and not 0 < top_share <= 1:
        raise RecipeError(f"--top-share must be above 0 and at most 1, got {top_share}")
    pairing = {"margin": margin, "worth": worth, "max_pairs": max_pairs, "seed": seed}
    turns = {"agent": agent, "everyone": everyone, "steps": steps, "versions": versions, "above": above}
    turns |= {"valid_only": valid_only}
    _check_flags(kind, {"min_reward": min_reward, "top_share": top_share}, turns, pairing)
    if not dry_run:
        check_out(out, overwrite)
    spoken = read_steps(versions, "--versions") if versions else Filters.versions
    chosen = Filters(
        reward=reward,
        min_reward=min_reward,
        top_share=top_share,
        only_seats=tuple(seat or ()),
        steps=read_steps(steps),
        valid_only=valid_only,
        updates=read_steps(updates, "--updates"),
        versions=spoken,
        above=above,
        texts=everyone,
    )
    console = Console(stderr=True)
    with console.status("reading episodes"):
        batches = read_batches(runs)
    _check_names(batches, seat or (), agent or (), everyone)
    rows = list(_rows(track(batches, "choosing", console=console), kind, chosen, agent or (), statuses, pairing))
    episodes = sum(len(batch.episodes) for batch in batches)
    _print_counts(rows, kind, episodes)
    if dry_run:
        return
    if not rows:
        raise RecipeError(f"data: none of {episodes} episodes gives a row of kind {kind}; loosen the filters")
    flags = {"reward": reward, "min_reward": min_reward, "top_share": top_share, "updates": updates, "status": statuses}
    flags |= {"seat": list(seat or ()), **turns, **(pairing if kind == "dpo" else {})}
    about = {"schema": SCHEMA, "kind": kind, "rows": len(rows), "filters": flags}
    about["episodes"] = {"from": [str(path) for path in runs], "files": len(batches), "count": episodes}
    write_set(rows, kind, form, out, about)
    console.print(f"{len(rows)} rows are in {out}", highlight=False, soft_wrap=True)


def _check_flags(kind: str, plays: Mapping[str, Any], turns: Mapping[str, Any], pairing: Mapping[str, Any]) -> None:
    """A flag that a kind has no use for is said to be so, not passed over."""
    useless = {
        "turns": (pairing, "it chooses pairs, see --as dpo"),
        "sft": (pairing, "it chooses pairs, see --as dpo"),
        "dpo": (plays, "a pair needs its worse side too; --margin and --above choose pairs"),
        "episodes": ({**turns, **pairing, "top_share": plays["top_share"]}, "it chooses turns, and episodes are whole"),
    }
    flags, why = useless[kind]
    defaults = {"worth": "return", "margin": 0, "seed": 0, "everyone": False, "valid_only": False}
    for name, value in flags.items():
        if value != defaults.get(name):
            raise RecipeError(f"--{name.replace('_', '-')} {value}: of no use for --as {kind}: {why}")


def _rows(
    batches: Iterable[Any],
    kind: str,
    chosen: Any,
    agents: Sequence[str],
    statuses: Sequence[str],
    pairing: Mapping[str, Any],
) -> Iterable[dict[str, Any]]:
    from marft.stages.export import dpo_set, episode_rows, sft_set, turn_rows
    from marft.stages.pairs import at_most, by_text, preference_pairs

    if kind == "episodes":
        return episode_rows(batches, chosen, statuses)
    if kind == "dpo":
        pairs = preference_pairs(batches, chosen, margin=pairing["margin"], by=pairing["worth"], read=by_text)
        wanted = {name: own for name, own in pairs.items() if not agents or name in agents}
        return dpo_set(at_most(wanted, pairing["max_pairs"], pairing["seed"]))
    turns = turn_rows(batches, chosen, agents, statuses)
    return sft_set(turns) if kind == "sft" else turns


def write_set(rows: Sequence[Mapping[str, Any]], kind: str, form: str, out: Path, about: Mapping[str, Any]) -> None:
    """Write the folder `out`, whole or not at all. form: parquet or jsonl."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from marft.files import replace_folder
    from marft.stages.export import SCHEMAS

    file = f"train.{form}"
    told = {"kind": kind, "rows": len(rows), "episodes": about["episodes"]["count"]}
    with replace_folder(out) as temporary:
        if form == "parquet":
            pq.write_table(pa.Table.from_pylist(list(rows), SCHEMAS[kind]), temporary / file, compression="zstd")
        else:
            with (temporary / file).open("w", encoding="utf-8") as lines:
                lines.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        card = CARD.format(file=file, about=ABOUT, folder=out, **told)
        (temporary / "README.md").write_text(card, encoding="utf-8")
        (temporary / ABOUT).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


def check_out(out: Path, overwrite: bool) -> None:
    """An earlier data set may be written over where that is asked for; nothing else is."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / ABOUT).is_file():
        raise RunFolderError(f"--out {out} exists and is no data set of marft data; choose another")
    if not overwrite:
        raise RunFolderError(f"--out {out} holds a data set; pass --overwrite or choose another")


def _check_names(batches: Sequence[Any], seats: Sequence[str], agents: Sequence[str], everyone: bool) -> None:
    """A name that no episode has is a slip of the pen, and would give no rows."""
    from marft.lookup import nearest

    known = {name for batch in batches for episode in batch.episodes for name in episode.seats}
    turns = [turn for batch in batches for episode in batch.episodes for turn in episode.turns]
    speakers = {(turn.agent or turn.policy) if everyone else turn.agent for turn in turns} - {None}
    for flag, names, found in (("--seat", seats, known), ("--agent", agents, speakers)):
        for name in names:
            if name not in found:
                raise RecipeError(f"{flag}: no {name!r} in these episodes{nearest(name, sorted(found))}")


def _print_counts(rows: Sequence[Mapping[str, Any]], kind: str, episodes: int) -> None:
    table = Table("agent" if kind != "episodes" else "game", "rows", title=f"{kind}: {episodes} episodes")
    counts = Counter(row["game" if kind == "episodes" else "agent"] for row in rows)
    for name, number in sorted(counts.items()):
        table.add_row(name, str(number))
    table.add_row("all", str(len(rows)))
    Console().print(table)
