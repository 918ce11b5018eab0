"""Episodes to the turn table: what credit works on. Pure data: no model, no file."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from marft.episode import Episode, Turn
from marft.errors import GameError

COLUMNS = (
    "episode",
    "group",
    "game",
    "seat",
    "agent",
    "step",
    "order",
    "role",
    "reward",
    "version",
    "tokens",
    "invalid",
    "truncated",
    "nll",
    "acted",
)


def turn_table(
    episodes: Sequence[Episode], roles: Mapping[str, str] | None = None, wanted: Collection[str] = ()
) -> dict[str, np.ndarray]:
    """The columns that credit works on: one row per turn, in the order of the episodes and their turns.

    A decision's reward is the sum of all reward terms at its step and stands on the decision's last turn; each term
    has a column of its own name beside. What a seat earns at a step where it does not act (the other's winning move)
    becomes a row of its own behind all turns, with `acted_U` false: it counts in returns, and nothing is trained on it.
    roles: seat -> functional group, where it is not the seat's name. wanted: columns to make only where asked for:
    `observation`, by default a label of everything that the seat has been shown.
    """
    roles = roles or {}
    turns = [turn for episode in episodes for turn in episode.turns]
    rows: list[tuple] = []
    idle: list[tuple] = []
    idle_marks: list[dict[str, Any]] = []
    terms = list(dict.fromkeys(name for episode in episodes for name in episode.terms))
    named: dict[str, list[float]] = {name: [] for name in terms}
    idle_named: dict[str, list[float]] = {name: [] for name in terms}
    for number, episode in enumerate(episodes):
        paid = _paid(episode)
        place = (number, episode.group, episode.game)
        speaker = {turn.seat: turn.agent or turn.policy for turn in episode.turns}
        last = {(turn.seat, turn.step): id(turn) for turn in episode.turns}
        for turn in episode.turns:
            here = (turn.seat, turn.step)
            gained = paid.pop(here, {}) if last[here] == id(turn) else {}
            who = (turn.seat, turn.agent or turn.policy, turn.step, turn.order)
            role = str(turn.marks.get("role", roles.get(turn.seat, turn.seat)))
            flags = (turn.version, len(turn.completion_ids), turn.invalid, turn.truncated, _nll(turn), True)
            rows.append((*place, *who, role, sum(gained.values()), *flags))
            for name in terms:
                named[name].append(gained.get(name, 0.0))
        for (seat, step), gained in paid.items():
            who = (seat, speaker.get(seat, episode.team[seat]), step, 0)
            rest = (sum(gained.values()), -1, 0, False, False, 0.0, False)
            idle.append((*place, *who, roles.get(seat, seat), *rest))
            idle_marks.append(_cause(episode, step))
            for name in terms:
                idle_named[name].append(gained.get(name, 0.0))
    columns = zip(*rows, *idle, strict=True) if rows or idle else ((),) * len(COLUMNS)
    table = {f"{name}_U": np.array(values) for name, values in zip(COLUMNS, columns, strict=True)}
    table |= {f"{name}_U": np.array(named[name] + idle_named[name]) for name in terms}
    table |= _marked([turn.marks for turn in turns] + idle_marks)
    if "observation" in wanted:
        seen = observations(episodes)
        given = table.get("observation_U", np.array([""] * len(turns)))[: len(turns)]
        labels = [one if one else other for one, other in zip(given.tolist(), seen, strict=True)]
        table["observation_U"] = np.array(labels + [""] * len(idle))
    return table


def _nll(turn: Turn) -> float:
    """Mean negative log-prob of the turn's tokens under the policy that sampled them; 0 where it is not known."""
    return -sum(turn.logprobs) / len(turn.logprobs) if turn.logprobs else 0.0


def _cause(episode: Episode, step: int) -> dict[str, Any]:
    """The place in the tree of the decision that a reward at `step` came from."""
    turn = next((turn for turn in reversed(episode.turns) if turn.step <= step), None)
    return {key: turn.marks[key] for key in ("node", "parent") if key in turn.marks} if turn is not None else {}


def _marked(marks: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """A column for each mark; where a turn lacks it, 0 or the empty text."""
    names = dict.fromkeys(name for one in marks for name in one if name != "role")
    columns = {}
    for name in names:
        values = [one.get(name) for one in marks]
        text = any(isinstance(value, str) for value in values)
        if any(value is not None and not isinstance(value, str | int | float) for value in values):
            raise GameError(f"marks: {name} must be a text or a number, not {values!r:.80}")
        columns[f"{name}_U"] = np.array([("" if text else 0) if value is None else value for value in values])
        if text:
            columns[f"{name}_U"] = columns[f"{name}_U"].astype(str)
    return columns


def observations(episodes: Iterable[Episode]) -> list[str]:
    """A label of what each turn's seat has been shown and has said until then, seat included: equal for equal views."""
    labels = []
    for episode in episodes:
        digests = {seat: hashlib.blake2b(seat.encode(), digest_size=8) for seat in episode.seats}
        for turn in episode.turns:
            digest = digests[turn.seat]
            for role, text in turn.messages:
                digest.update(repr((role, text)).encode())  # written so, no text can pass for two
            labels.append(digest.hexdigest())
            digest.update(repr(turn.text).encode())
    return labels


def _paid(episode: Episode) -> dict[tuple[str, int], dict[str, float]]:
    """(seat, step) -> term -> reward, zeros left out."""
    paid: dict[tuple[str, int], dict[str, float]] = {}
    for name, term in episode.terms.items():
        for seat, values in term.items():
            for step, value in enumerate(values):
                if value:
                    paid.setdefault((seat, step), {})[name] = value
    return paid


def duplicates(episodes: Sequence[Episode]) -> np.ndarray:
    """(U,) for each turn the first turn that is the same completion: branches of a tree share what lies before them."""
    first: dict[tuple, int] = {}
    same = []
    for episode in episodes:
        for turn in episode.turns:
            number = len(same)
            if "sample" in turn.marks:
                place = (episode.group, turn.marks["parent"], turn.seat, turn.marks["sample"])
                same.append(first.setdefault(place, number))
            else:
                same.append(number)
    return np.array(same, dtype=np.int64)
