"""What an evaluation would play and about how many tokens it would take; nothing is loaded.

One episode of each match's game is played by scripted players. A seat's prompt is what it was told and said before, at
four characters a token; an answer is counted with its longest.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table

from marft.engines.route import REMOTE, SCRIPTED
from marft.eval.evaluation import Evaluation
from marft.eval.folder import shards_of
from marft.eval.matches import Match, schedule_of
from marft.eval.teams import Team
from marft.games import make_game

CHARACTERS = 4
MOST_DECISIONS = 2000


class Cost(NamedTuple):
    """Tokens: `read` of prompts, each counted once per seat and turn in which it is new; `written` at most."""

    read: int
    written: int


def print_dry(evaluation: Evaluation, teams: Sequence[Team], console: Console) -> None:
    """Matches, episodes, tokens."""
    schedule = schedule_of(evaluation, teams)
    longest = {team.name: team.sampling.max_new_tokens for team in teams}
    longest |= {team.name: team.remote.max_tokens for team in teams if team.remote is not None}
    measured: dict[int, list[str]] = {}
    for pair in schedule.pairs:
        measured.setdefault(pair.group, []).append(f"{pair.team} against {pair.opponent}")
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in ("game", "match", "ways", "episodes", "tokens read", "tokens written, at most"):
        table.add_column(heading, justify="left" if heading in ("game", "match") else "right")
    known: dict[tuple[str, str], Mapping[str, tuple[int, int]] | None] = {}
    total, unknown = Cost(0, 0), 0
    for group, match in enumerate(schedule.matches):
        key = (match.game, repr(match.options))
        if key not in known:
            known[key] = _turns(match)
        cost = _cost(match, known[key], longest)
        cells = ("?", "?") if cost is None else tuple(f"{one:,}" for one in cost)
        total, unknown = _plus(total, cost), unknown + (cost is None)
        name = ", ".join(measured[group])
        table.add_row(match.game, name, str(len(match.tables)), f"{match.episodes:,}", *cells)
    console.print(table)
    episodes = sum(match.episodes for match in schedule.matches)
    console.print(
        f"{len(schedule.matches)} matches, {episodes:,} episodes in {len(shards_of(schedule))} shards; about "
        f"{total.read:,} tokens read, at most {total.written:,} written"
        + f"; {unknown} matches have no scripted player to estimate by"
        * bool(unknown),
        highlight=False,
        soft_wrap=True,
    )


def _turns(match: Match) -> dict[str, tuple[int, int]] | None:
    """seat -> (how often it is asked, characters it is told) in one episode between scripted players."""
    game = make_game(match.game, match.options)
    if not game.players:
        return None
    player = game.players.get("random") or next(iter(game.players.values()))
    rng, found = random.Random(0), dict.fromkeys(game.seats, (0, 0))
    game.reset(0)
    for _ in range(MOST_DECISIONS):
        seats = game.acting()
        if not seats:
            break
        for seat in seats:
            asked, told = found[seat]
            found[seat] = (asked + 1, told + sum(len(message.text) for message in game.observe(seat)))
        game.act({seat: player(game.view(seat), rng) for seat in seats})
    return found


def _cost(match: Match, turns: Mapping[str, tuple[int, int]] | None, longest: Mapping[str, int]) -> Cost | None:
    read = written = 0
    for table in match.tables:
        for seat, policy in table.items():
            if policy.startswith(SCRIPTED):
                continue
            if turns is None or seat not in turns:
                return None
            asked, told = turns[seat]
            most = longest.get(policy.removeprefix(REMOTE).partition("/")[0], 64)
            read, written = read + told // CHARACTERS, written + asked * most
    each = match.seeds * match.instances
    return Cost(read * each, written * each)


def _plus(total: Cost, cost: Cost | None) -> Cost:
    return total if cost is None else Cost(total.read + cost.read, total.written + cost.written)
