"""Episodes in the terminal: who saw what, said what, did what, earned what.

Everything printed was written by models or by games, so nothing of it is read as markup, and control characters appear
as signs (`marft.report.text.visible`) instead of reaching the terminal.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from marft.episode import Episode, Turn
from marft.errors import RunFolderError
from marft.lookup import nearest
from marft.report.text import number, short, visible
from marft.report.transcripts import score
from marft.store import read_jsonl, read_parquet

SORTS = ("id", "best", "worst")
COLOURS = ("cyan", "magenta", "yellow", "green", "blue", "red")


def show_episodes(
    path: Path,
    *,
    update: int | None = None,
    episode: str | None = None,
    limit: int = 3,
    tokens: bool = False,
    sort: str = "id",
    console: Console,
) -> None:
    """Print up to `limit` episodes of a run folder, a Parquet file or a JSONL file.

    update: that update's episodes only; negative counts from the newest, -1. Of a run folder, without `update` and
    `episode`, the newest update is shown. episode: the one with this id. tokens: also token ids with their
    log-probabilities. sort: by id, or by the learners' mean return, best or worst first (failed ones last).
    Raises RunFolderError where there is nothing to show, and says what there is.
    """
    if sort not in SORTS:
        raise RunFolderError(f"sort {sort!r} is not one of {', '.join(SORTS)}")
    found = _load(Path(path), update, episode)
    if episode is not None:
        chosen = [one for one in found if one.id == episode]
        if not chosen:
            raise RunFolderError(
                f"{path} has no episode {episode!r}{nearest(episode, [one.id for one in found][:2000])}"
            )
    else:
        chosen = ordered(found, sort)[:limit]
        updates = sorted({one.update for one in found})
        where = f"update {updates[0]}" if len(updates) == 1 else f"updates {updates[0]} to {updates[-1]}"
        order = {"id": "by id", "best": "highest return first", "worst": "lowest return first"}[sort]
        print_text(console, f"{where}: {len(chosen)} of {len(found)} episodes, {order}", "dim")
    for one in chosen:
        _show(one, tokens, console)


def ordered(episodes: Sequence[Episode], sort: str) -> list[Episode]:
    """By id, or by return with failed episodes last."""
    if sort == "id":
        return sorted(episodes, key=lambda one: one.id)
    sign = -1 if sort == "best" else 1
    return sorted(episodes, key=lambda one: (one.failed, sign * score(one), one.id))


def _load(path: Path, update: int | None, episode: str | None) -> list[Episode]:
    """The episodes to choose from."""
    if path.is_dir():
        return _load_run(path, update, episode)
    if not path.is_file():
        raise RunFolderError(f"{path} does not exist; give a run folder or a .parquet or .jsonl file of episodes")
    if path.suffix not in (".parquet", ".jsonl"):
        raise RunFolderError(f"{path} is neither a run folder nor a .parquet or .jsonl file")
    try:
        found = read_parquet(path) if path.suffix == ".parquet" else read_jsonl(path)
    except (ValueError, TypeError, KeyError) as error:
        raise RunFolderError(f"{path} holds no episodes: {type(error).__name__}: {visible(error)}") from None
    if not found:
        raise RunFolderError(f"{path} holds no episodes")
    if update is None:
        return found
    updates = sorted({one.update for one in found})
    wanted = _pick(path, updates, update)
    return [one for one in found if one.update == wanted]


def _load_run(path: Path, update: int | None, episode: str | None) -> list[Episode]:
    files: dict[int, list[Path]] = {}
    for file in sorted((path / "episodes").glob("update-*.parquet")):
        if match := re.fullmatch(r"update-(\d+)(-\d+)?", file.stem):
            files.setdefault(int(match[1]), []).append(file)
    if not files:
        what = "has no episodes yet" if (path / "recipe.yaml").is_file() else "is no run folder: it holds no episodes/"
        raise RunFolderError(f"{path} {what}")
    updates = sorted(files)
    if update is None and episode is not None:
        named = re.match(r"u(\d+)-", episode)
        wanted = [int(named[1])] if named and int(named[1]) in files else updates
    else:
        wanted = [_pick(path, updates, -1 if update is None else update)]
    found = [one for number in wanted for file in files[number] for one in read_parquet(file)]
    if not found:
        raise RunFolderError(f"{path}: update {wanted[0]} holds no episodes")
    return found


def _pick(path: Path, updates: Sequence[int], update: int) -> int:
    if update in updates:
        return update
    if -len(updates) <= update < 0:
        return updates[update]
    raise RunFolderError(f"{path} has no episodes of update {update}; it has updates {updates[0]} to {updates[-1]}")


def _show(episode: Episode, tokens: bool, console: Console) -> None:
    console.print()
    console.rule(Text(visible(episode.id), "bold"), align="left")
    where = f"update {episode.update}, group {episode.group}, attempt {episode.attempt}"
    print_text(console, f"{episode.game}, seed {episode.seed}, {where}")
    if episode.failed:
        print_text(console, f"{episode.status}: {episode.cause}", "bold red")
    print_text(console, "team    " + ", ".join(f"{seat}: {episode.team.get(seat, '?')}" for seat in episode.seats))
    print_text(console, "return  " + amounts(episode.returns()), "bold")
    for name, by_seat in episode.terms.items():
        print_text(console, f"term {name}: " + amounts({seat: sum(values) for seat, values in by_seat.items()}), "dim")
    if episode.facts:
        print_text(console, "facts   " + json.dumps(episode.facts, ensure_ascii=False), "dim")
    print_steps(episode, console, tokens=tokens)


def steps_of(episode: Episode) -> int:
    """How many steps of its clock an episode has."""
    return max([len(episode.rewards), *(turn.step + 1 for turn in episode.turns)])


def print_steps(episode: Episode, console: Console, *, tokens: bool = False, most: int | None = None) -> None:
    """The steps of an episode (the first `most` of them): who was told what, said what, did what, earned what."""
    colours = {seat: COLOURS[place % len(COLOURS)] for place, seat in enumerate(episode.seats)}
    for step in range(steps_of(episode))[:most]:
        turns = [turn for turn in episode.turns if turn.step == step]
        rewards = episode.rewards[step] if step < len(episode.rewards) else {}
        if turns or any(rewards.values()):
            print_text(console, f"step {step}" + (f"  reward {amounts(rewards)}" if rewards else ""), "bold")
        for turn in turns:
            print_turn(turn, colours.get(turn.seat, "white"), tokens, console)


def print_turn(turn: Turn, colour: str, tokens: bool, console: Console) -> None:
    head = Text(f"  {visible(turn.seat)}", f"bold {colour}")
    if turn.agent is not None and turn.version >= 0:
        head.append(f"  {visible(turn.agent)} version {turn.version}", "dim")
    else:
        head.append(f"  {visible(turn.policy)}", "dim")
    if turn.action is not None:
        head.append(f"  action {visible(action_text(turn.action))}", "bold")
    if turn.invalid:
        head.append("  unreadable", "bold red")
    if turn.truncated:
        head.append("  cut short", "bold yellow")
    console.print(head, highlight=False)
    for role, text in turn.messages:
        print_text(console, f"{role}: {text}", "dim", indent=4)
    print_text(console, turn.text if turn.text else "(empty)", colour if turn.text else "dim italic", indent=4)
    if tokens and turn.completion_ids:
        known = [*turn.logprobs, *[None] * (len(turn.completion_ids) - len(turn.logprobs))]
        pairs = zip(turn.completion_ids, known, strict=False)
        print_text(console, "  ".join(f"{token} ({number(logprob)})" for token, logprob in pairs), "dim", indent=4)


def action_text(action: Any) -> str:
    """A parsed action on one line."""
    return action if isinstance(action, str) else json.dumps(action, ensure_ascii=False)


def amounts(values: Mapping[str, float]) -> str:
    return ", ".join(f"{seat} {short(value)}" for seat, value in values.items())


def print_text(console: Console, text: str, style: str = "", indent: int = 0) -> None:
    """Print untrusted text as it is: no markup, no emoji codes, no highlighting, no control characters."""
    shown = Text(visible(text), style)
    for line in shown.wrap(console, max(20, console.width - indent)):
        console.print(Text(" " * indent).append_text(line), highlight=False, soft_wrap=True)
