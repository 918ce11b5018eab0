"""Episodes on disk: Parquet, one row per episode, its turns as lists; and JSONL for people and other tools.

Columns are built from flat arrays and offsets, since building nested Python objects would cost more than playing did.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from marft.episode import Episode, Turn
from marft.errors import RunFolderError
from marft.files import replace_file, write_text
from marft.records import TokenRecord

_PLAIN = {
    "id": pa.string(),
    "game": pa.string(),
    "seed": pa.int64(),
    "group": pa.int32(),
    "index": pa.int32(),
    "attempt": pa.int32(),
    "update": pa.int32(),
    "status": pa.string(),
    "cause": pa.string(),
}
_JSON = ("seats", "team", "rewards", "terms", "facts", "failures")
_TURN = {
    "seat": pa.string(),
    "step": pa.int32(),
    "order": pa.int32(),
    "policy": pa.string(),
    "text": pa.string(),
    "agent": pa.string(),
    "version": pa.int32(),
    "fresh": pa.bool_(),
    "finish_reason": pa.string(),
    "invalid": pa.bool_(),
}
_TURN_JSON = ("messages", "action", "marks")
_TURN_LISTS = {"prompt_ids": pa.int32(), "completion_ids": pa.int32(), "logprobs": pa.float32()}


def write_parquet(episodes: Sequence[Episode], path: Path) -> None:
    """Write episodes to one Parquet file, whole or not at all."""
    turns = [turn for episode in episodes for turn in episode.turns]
    offsets = _offsets([len(episode.turns) for episode in episodes])
    columns: dict[str, pa.Array] = {
        name: pa.array([getattr(episode, name) for episode in episodes], kind) for name, kind in _PLAIN.items()
    }
    encode = _Json()
    for name in _JSON:
        columns[name] = pa.array([encode(getattr(episode, name)) for episode in episodes], pa.string())
    for name, kind in _TURN.items():
        flat = pa.array([getattr(turn, name) for turn in turns], kind)
        columns[f"turn_{name}"] = pa.ListArray.from_arrays(offsets, flat)
    for name in _TURN_JSON:
        flat = pa.array([encode(getattr(turn, name)) for turn in turns], pa.string())
        columns[f"turn_{name}"] = pa.ListArray.from_arrays(offsets, flat)
    for name, kind in _TURN_LISTS.items():
        values = [getattr(turn, name) for turn in turns]
        flat = _narrowest([item for value in values for item in value], kind)
        inner = pa.ListArray.from_arrays(_offsets([len(value) for value in values]), flat)
        columns[f"turn_{name}"] = pa.ListArray.from_arrays(offsets, inner)
    with replace_file(path) as temporary:
        pq.write_table(pa.table(columns), temporary, compression="zstd")


def read_parquet(path: Path, ids: Container[str] | None = None) -> list[Episode]:
    """The episodes of one Parquet file. ids: the episodes whose token ids and log-probs are wanted; default all."""
    table = _read(path)
    if ids is None:
        return [_episode(row) for row in table.to_pylist()]
    lists = [f"turn_{name}" for name in _TURN_LISTS]
    rows = table.drop_columns(lists).to_pylist()
    wanted = [place for place, row in enumerate(rows) if row["id"] in ids]
    found = dict(zip(wanted, table.select(lists).take(pa.array(wanted, pa.int64())).to_pylist(), strict=True))
    for place, row in enumerate(rows):
        row |= found.get(place) or {name: [[]] * len(row["turn_seat"]) for name in lists}
    return [_episode(row) for row in rows]


def read_episodes(folder: Path, update: int | None = None) -> Iterator[Episode]:
    """All episodes of a run (or of one update), in the order they were played."""
    pattern = "update-*.parquet" if update is None else f"update-{update:06d}*.parquet"
    for path in sorted((folder / "episodes").glob(pattern)):
        yield from read_parquet(path)


def write_tokens(records: Sequence[TokenRecord], path: Path) -> None:
    """Write the token records of an update to one Parquet file, whole or not at all."""
    columns: dict[str, pa.Array] = {
        "episode": pa.array([one.episode for one in records], pa.string()),
        "seat": pa.array([one.seat for one in records], pa.string()),
        "turn": pa.array([one.turn for one in records], pa.int32()),
    }
    for name in ("advantage", "logprobs"):
        values = [getattr(one, name) for one in records]
        flat = _narrowest(np.concatenate(values), pa.float32())
        columns[name] = pa.ListArray.from_arrays(_offsets([len(value) for value in values]), flat)
    with replace_file(path) as temporary:
        pq.write_table(pa.table(columns), temporary, compression="zstd")


def read_tokens(path: Path) -> list[TokenRecord]:
    """The token records of one Parquet file."""
    rows = _read(path).to_pylist()
    lists = ("advantage", "logprobs")
    return [TokenRecord(**row | {name: np.array(row[name], np.float64) for name in lists}) for row in rows]


def write_jsonl(episodes: Sequence[Episode], path: Path) -> None:
    """One episode per line."""
    write_text(path, "".join(json.dumps(episode.to_dict(), ensure_ascii=False) + "\n" for episode in episodes))


def read_jsonl(path: Path) -> list[Episode]:
    """The episodes of a JSONL file."""
    lines = path.read_text(encoding="utf-8").split(
        "\n"
    )  # splitlines would also cut at U+2028, which JSON leaves as it is
    return [Episode.from_dict(json.loads(line)) for line in lines if line]


def _read(path: Path) -> pa.Table:
    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise RunFolderError(f"episodes: {path} is not readable as Parquet: {error}") from None


class _Json:
    """JSON texts, remembered: most turns of a game say and hear the same few things."""

    def __init__(self) -> None:
        self._seen: dict[Any, str] = {}

    def __call__(self, value: Any) -> str:
        key = _texts(value)
        if key is None:
            return json.dumps(value, ensure_ascii=False)
        if key not in self._seen:
            self._seen[key] = json.dumps(value, ensure_ascii=False)
        return self._seen[key]


def _texts(value: Any) -> Any:
    """A key for a text or a few messages; None for anything else, since 1, 1.0 and True are the same key."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and 0 < len(value) < 4:
        key = tuple(value)
        if all(type(item) is tuple and all(type(text) is str for text in item) for item in key):
            return key
    return None


def _narrowest(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """In this type; log-probs of a float64 model in float64, so that what is trained on is what is stored."""
    column = np.array(values, np.float64 if kind == pa.float32() else kind.to_pandas_dtype())
    if column.dtype == np.float64 and not np.array_equal(column, column.astype(np.float32), equal_nan=True):
        kind = pa.float64()
    return pa.array(column, kind)


def _offsets(lengths: Sequence[int]) -> pa.Array:
    return pa.array(np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int32), pa.int32())


def _episode(row: dict[str, Any]) -> Episode:
    count = len(row["turn_seat"])
    turns = []
    for number in range(count):
        fields = {name: row[f"turn_{name}"][number] for name in (*_TURN, *_TURN_LISTS)}
        messages = [tuple(message) for message in json.loads(row["turn_messages"][number])]
        loaded = {name: json.loads(row[f"turn_{name}"][number]) for name in ("action", "marks")}
        turns.append(Turn(**fields, **loaded, messages=messages))
    plain = {name: row[name] for name in _PLAIN}
    data = {name: json.loads(row[name]) for name in _JSON if name in row}  # files of earlier versions lack some
    return Episode(**plain, **(data | {"seats": tuple(data["seats"])}), turns=turns)
