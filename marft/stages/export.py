"""Recorded episodes as rows of a data set: turns, episodes, and what TRL's trainers take. Pure: no file.

`turns`     a turn a row: prompt and completion in the conversational format, and all that is known of the turn
`episodes`  an episode a row
`sft`       a turn a row as one conversation, `messages`, that ends with what the turn said
`dpo`       a pair a row: `prompt`, `chosen`, `rejected`

Texts are those that were recorded: whoever trains on them has them tokenised anew, with a template of their own.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import pyarrow as pa

from marft.episode import Turn
from marft.stages.pairs import Pair, by_text
from marft.stages.select import Filters, as_agents, kept_turns
from marft.stages.sources import Batch
from marft.stages.values import turn_values, worth

Kind = Literal["turns", "episodes", "sft", "dpo"]
STATUSES = ("done", "partial", "failed")

_TALK = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
_PLACE = [("episode", pa.string()), ("game", pa.string()), ("seat", pa.string()), ("agent", pa.string())]
_PLACE += [("step", pa.int64()), ("order", pa.int64()), ("version", pa.int64()), ("update", pa.int64())]
_PLACE += [("group", pa.int64()), ("seed", pa.int64()), ("reward", pa.float64()), ("value", pa.float64())]
_TURN = [("prompt", _TALK), ("completion", _TALK), *_PLACE, ("index", pa.int64()), ("status", pa.string())]
_TURN += [("policy", pa.string()), ("action", pa.string()), ("invalid", pa.bool_()), ("truncated", pa.bool_())]
_TURN += [("tokens", pa.int64()), ("marks", pa.string())]
_SAID = [("seat", pa.string()), ("agent", pa.string()), ("policy", pa.string()), ("step", pa.int64())]
_SAID += [("order", pa.int64()), ("messages", _TALK), ("text", pa.string()), ("action", pa.string())]
_SAID += [("invalid", pa.bool_())]
_EPISODE = [("id", pa.string()), ("game", pa.string()), ("seed", pa.int64()), ("group", pa.int64())]
_EPISODE += [("index", pa.int64()), ("attempt", pa.int64()), ("update", pa.int64()), ("status", pa.string())]
_EPISODE += [("cause", pa.string()), ("seats", pa.list_(pa.string())), ("team", pa.string())]
_EPISODE += [("rewards", pa.string()), ("terms", pa.string()), ("worth", pa.string()), ("facts", pa.string())]
_EPISODE += [("turns", pa.list_(pa.struct(_SAID)))]
_PAIR = [("prompt", _TALK), ("chosen", _TALK), ("rejected", _TALK), ("seat", pa.string()), ("agent", pa.string())]
SCHEMAS: dict[str, pa.Schema] = {
    "turns": pa.schema(_TURN),
    "episodes": pa.schema(_EPISODE),
    "sft": pa.schema([("messages", _TALK), *_PLACE]),
    "dpo": pa.schema([*_PAIR, ("gap", pa.float64())]),
}
"""The columns of each kind. What differs from game to game (actions, facts, marks) is a text in JSON."""


def episode_rows(batches: Iterable[Batch], filters: Filters, statuses: Sequence[str]) -> Iterator[dict[str, Any]]:
    """An episode a row, those in which one of the wanted seats earned enough."""
    for batch in batches:
        for episode in batch.episodes:
            values = {seat: worth(episode, seat, filters.reward) for seat in episode.seats}
            wanted = [values[seat] for seat in filters.only_seats or episode.seats if seat in values]
            low = -math.inf if filters.min_reward is None else filters.min_reward
            here = episode.status in statuses and filters.updates[0] <= episode.update <= filters.updates[1]
            if not here or not any(value >= low for value in wanted):
                continue
            plain = {
                key: getattr(episode, key) for key in ("id", "game", "seed", "group", "index", "attempt", "update")
            }
            plain |= {"status": episode.status, "cause": episode.cause, "seats": list(episode.seats)}
            told = {key: _json(getattr(episode, key)) for key in ("team", "rewards", "terms", "facts")}
            yield plain | told | {"worth": _json(values), "turns": [_said(turn) for turn in episode.turns]}


def turn_rows(
    batches: Iterable[Batch], filters: Filters, agents: Sequence[str] = (), statuses: Sequence[str] = ("done",)
) -> Iterator[dict[str, Any]]:
    """A turn a row, those that pass the filters; what branches of a tree share is one.

    agents: whose turns; none given, all. statuses: of the episodes.
    """
    for batch in as_agents(batches, filters, statuses):
        own_U, number = kept_turns(batch.episodes, filters), 0
        values = turn_values(batch.episodes, filters.reward)
        for episode, value_T in zip(batch.episodes, values, strict=True):
            heard = {id(turn): talk for seat in episode.seats for turn, talk, _ in by_text(episode, seat)}
            for turn, value in zip(episode.turns, value_T, strict=True):
                kept = own_U[number] >= 0 and (not agents or turn.agent in agents)
                number += 1
                if not kept:
                    continue
                yield {
                    "prompt": talk_of(heard[id(turn)]),
                    "completion": talk_of([("assistant", turn.text)]),
                    "episode": episode.id,
                    **{key: getattr(episode, key) for key in ("game", "update", "group", "seed", "index", "status")},
                    **{key: getattr(turn, key) for key in ("seat", "agent", "step", "order", "version", "policy")},
                    "reward": worth(episode, turn.seat, filters.reward),
                    "value": None if math.isnan(value) else value,
                    "action": _json(turn.action),
                    "invalid": turn.invalid,
                    "truncated": turn.truncated,
                    "tokens": len(turn.completion_ids),
                    "marks": _json(turn.marks),
                }


def sft_set(turns: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Rows of `turn_rows` as conversations."""
    for row in turns:
        yield {"messages": row["prompt"] + row["completion"], **{key: row[key] for key, _ in _PLACE}}


def dpo_set(pairs: Mapping[str, Sequence[Pair]]) -> Iterator[dict[str, Any]]:
    """agent -> pairs of texts, as TRL's preference format has them."""
    for agent, own in pairs.items():
        for pair in own:
            sides = {side: talk_of([("assistant", getattr(pair, side))]) for side in ("chosen", "rejected")}
            yield {"prompt": talk_of(pair.prompt), **sides, "seat": pair.seat, "agent": agent, "gap": pair.gap}


def talk_of(messages: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    """(role, text) as the conversational format has it."""
    return [{"role": role, "content": text} for role, text in messages]


def _said(turn: Turn) -> dict[str, Any]:
    row = {key: getattr(turn, key) for key in ("seat", "agent", "policy", "step", "order", "text", "invalid")}
    return row | {"messages": talk_of(turn.messages), "action": _json(turn.action)}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
