"""A person in a seat: `marft play`.

The person is shown what its seat is told, word for word and nothing else, until the episode is over; then everybody's
actions and rewards. The rest is the rollout's own: the same Player asks, the same engines answer for the other seats,
and the transcript is an episode like any other.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from marft.engines.base import Completion, Request
from marft.engines.route import complete
from marft.episode import Episode, Turn
from marft.errors import GameError, RunFolderError
from marft.opponents import YOU, Table
from marft.report.text import visible
from marft.rollout import Plan, Player, guard
from marft.show import action_text, amounts, print_text, steps_of
from marft.store import read_jsonl, write_jsonl

Ask = Callable[[str], str]
"""Prompt -> what the person says; EOFError or KeyboardInterrupt where it leaves."""


def play(table: Table, seed: int, console: Console, *, ask: Ask, out: Path | None = None) -> Episode:
    """Play one episode from instance `seed`; it is added to the JSONL file `out`, also where the person left.

    An episode that somebody left, or that the game broke, has the status "failed" and says why.
    """
    earlier = _earlier(out)
    seat = table.seat
    player = Player(
        table.game, Plan(0, len(earlier), seed, table.team), table.chat, table.sampling, (), seed, attempt=0
    )
    others = ", ".join(f"{other}: {policy}" for other, policy in table.team.items() if other != seat)
    print_text(console, f"{table.game.name}, seed {seed}. You are {seat}{f'; {others}' if others else ''}.", "bold")
    print_text(console, "One line is one answer. Ctrl-D leaves.", "dim")
    episode = player.episode
    try:
        guard(player.start)
        while requests := guard(player.requests):
            turns = player.asked
            guard(player.receive, _answers(table, turns, requests, console, ask))
            _tell_unread([turn for turn in turns if turn.seat == seat], console)
        guard(player.finish)
    except (EOFError, KeyboardInterrupt):
        episode.status, episode.cause = "failed", f"{seat} left after {len(episode.turns)} turns"
    except GameError as error:
        episode.status, episode.cause = "failed", str(error)
        raise
    finally:
        if out is not None:
            write_jsonl([*earlier, episode], out)
    _print_result(episode, console)
    return episode


def read_line(prompt: str) -> str:
    """A line from the person, or from a pipe; what came from a pipe is echoed, since nobody typed it on the screen."""
    if sys.stdin.isatty():
        with contextlib.suppress(ImportError):  # lines can be edited where the platform has it
            import readline  # noqa: F401
        return input(prompt)
    line = input(prompt)
    print(visible(line))
    return line


def _answers(
    table: Table, turns: Sequence[Turn], requests: Sequence[Request], console: Console, ask: Ask
) -> list[Completion]:
    """One answer per request: the person's own, and the engines'."""
    answers: dict[int, Completion] = {}
    for number, turn in enumerate(turns):
        if turn.policy == YOU:
            console.print()
            for role, text in turn.messages:
                print_text(console, text if role == "user" else f"{role}: {text}")
            answers[number] = Completion([], [], "stop", text=ask(f"{visible(turn.seat)}> "))
    others = [number for number in range(len(requests)) if number not in answers]
    if others:
        # a loop per decision: in one that lasted, Ctrl-C would not reach a person who is asked
        asked = complete([requests[number] for number in others], table.model, table.scripted, table.remote)
        answers |= zip(others, asyncio.run(asked), strict=True)
    return [answers[number] for number in range(len(requests))]


def _tell_unread(turns: Sequence[Turn], console: Console) -> None:
    for turn in turns:
        if turn.invalid:
            taken = f"; the game takes it as {action_text(turn.action)}" if turn.action is not None else ""
            print_text(console, f"That could not be read{taken}.", "yellow")


def _print_result(episode: Episode, console: Console) -> None:
    """What everybody did and earned, step by step and altogether."""
    console.print()
    for step in range(steps_of(episode)):
        did = [_did(turn) for turn in episode.turns if turn.step == step]
        rewards = episode.rewards[step] if step < len(episode.rewards) else {}
        print_text(console, f"step {step}  {', '.join(did)}{f'  reward {amounts(rewards)}' if rewards else ''}")
    if episode.failed:
        print_text(console, f"not played to the end: {episode.cause}", "yellow")
    print_text(console, f"return  {amounts(episode.returns())}", "bold")
    if episode.facts:
        print_text(console, f"facts   {json.dumps(episode.facts, ensure_ascii=False)}", "dim")


def _did(turn: Turn) -> str:
    return f"{turn.seat} {action_text(turn.action)}{' (unreadable)' * turn.invalid}"


def _earlier(out: Path | None) -> list[Episode]:
    """The episodes that the transcript holds already; RunFolderError, before anything is played, if it is no good."""
    if out is None:
        return []
    if out.suffix != ".jsonl":
        raise RunFolderError(f"--out: the transcript {out} must end in .jsonl")
    if not os.access(out.parent, os.W_OK):
        raise RunFolderError(f"--out: {out.parent} is no folder that can be written")
    if not out.exists():
        return []
    try:
        return read_jsonl(out)
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise RunFolderError(f"--out: {out} is there and holds no episodes: {error}") from None
