"""The episodes of all runs: an index with a short row each, and the whole episodes in compressed pieces.

A page that is opened reads the index alone; a chosen episode costs one piece, a search of all texts reads piece after
piece. A piece is gzip in base64, known by its content. Where all pieces together pass the budget, every second one
keeps its place in the index alone, then every second of those left, and so on; the page says how many are whole.
"""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from marft.errors import RunFolderError
from marft.records import TokenRecord
from marft.report.runs import Run
from marft.report.tokens import Vocabulary, token_turns
from marft.report.transcripts import Texts, row, whole
from marft.store import read_parquet, read_tokens

EPISODES = 256
"""Most episodes of a piece."""
CHARACTERS = 4_000_000
"""Characters of JSON after which a piece ends."""
BUDGET = 40_000_000
"""Characters of all pieces together."""

_FILE = re.compile(r"update-(\d+)(?:-\d+)?\.parquet")
Stamp = tuple[str, int, int]
Key = tuple[int, tuple[Stamp, ...]]


@dataclass(frozen=True)
class Piece:
    """Some episodes in a row of one run. data: base64 of gzip of {"texts", "episodes"}; None where it is not kept."""

    run: int
    key: str
    rows: Sequence[Mapping[str, Any]]
    data: str | None


class Store:
    """The pieces of runs. remember: what was made once is not made again until the files it comes from change."""

    def __init__(self, remember: bool = False) -> None:
        self._remember = remember
        self._made: dict[Key, list[Piece]] = {}
        self._vocabularies: dict[Path, Vocabulary] = {}

    def pieces(self, runs: Sequence[Run], budget: int = BUDGET) -> list[Piece]:
        """Of all runs, in their order and that of play."""
        known, self._made = self._made, {}
        return within((one for place, run in enumerate(runs) for one in self._of_run(place, run, known)), budget)

    def problems(self) -> list[str]:
        """Why tokens of a run are shown as ids."""
        return sorted({one.problem for one in self._vocabularies.values() if one.problem})

    def _of_run(self, place: int, run: Run, known: Mapping[Key, list[Piece]]) -> Iterator[Piece]:
        vocabulary = self._vocabularies.setdefault(run.path, Vocabulary(run))
        for files, stamps in planned(run):
            made = known.get((place, stamps)) or list(_made(place, files, vocabulary))
            if self._remember:
                self._made[place, stamps] = made
            yield from made


def planned(run: Run) -> list[tuple[list[Path], tuple[Stamp, ...]]]:
    """Files of episodes that go together, with what tells whether one of them has changed."""
    found: list[tuple[list[Path], tuple[Stamp, ...]]] = []
    count = EPISODES
    for path in sorted(run.path.glob("episodes/*.parquet")):
        if not _FILE.fullmatch(path.name):
            continue
        rows = _rows(*_stamp(path))
        if count + rows > EPISODES:
            found.append(([], ()))
            count = 0
        files, stamps = found[-1]
        found[-1] = ([*files, path], stamps + tuple(map(_stamp, (path, *_token_files(path)))))
        count += rows
    return found


def within(pieces: Iterable[Piece], budget: int) -> list[Piece]:
    """The pieces, so many of them with their data, evenly spread, as the budget (in characters) holds."""
    kept: list[Piece] = []
    stride, size = 1, 0
    for number, piece in enumerate(pieces):
        data = piece.data if number % stride == 0 else None
        kept.append(replace(piece, data=data))
        size += len(data or "")
        while size > budget and stride <= len(kept):
            stride *= 2
            kept = [one if place % stride == 0 else replace(one, data=None) for place, one in enumerate(kept)]
            size = sum(len(one.data or "") for one in kept)
    return kept


def index(runs: Sequence[Run], hues: Sequence[int], pieces: Sequence[Piece]) -> str:
    """Base64 of gzip of what the browser's list needs; its form is known to index.js."""
    games, agents, teams, statuses = Numbers(), Numbers(), Numbers(), Numbers()
    columns: dict[str, list[Any]] = {"run": []}
    for piece in pieces:
        for one in piece.rows:
            columns["run"].append(piece.run)
            numbered = one | {
                "game": games(one["game"]),
                "team": teams(tuple(map(agents, one["team"]))),
                "status": statuses(one["status"]),
            }
            for name, value in numbered.items():
                columns.setdefault(name, []).append(value)
    return packed(
        {
            "runs": [{"name": run.name, "hue": hue} for run, hue in zip(runs, hues, strict=True)],
            "games": games.found,
            "agents": agents.found,
            "teams": teams.found,
            "statuses": statuses.found,
            "pieces": [[piece.key, len(piece.rows), int(piece.data is not None)] for piece in pieces],
            "columns": columns,
        }
    )


def packed(data: Any) -> str:
    """JSON, gzip, base64; the same data gives the same text."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return base64.b64encode(gzip.compress(text.encode(), 6, mtime=0)).decode()


class Numbers:
    """Values by number, each once."""

    def __init__(self) -> None:
        self.found: list[Any] = []
        self._places: dict[Any, int] = {}

    def __call__(self, value: Any) -> int:
        if value not in self._places:
            self._places[value] = len(self.found)
            self.found.append(value)
        return self._places[value]


def _made(place: int, files: Sequence[Path], vocabulary: Vocabulary) -> Iterator[Piece]:
    rows: list[dict[str, Any]] = []
    episodes: list[dict[str, Any]] = []
    texts, size = Texts(), 0

    def piece() -> Piece:
        data = packed({"texts": texts.texts, "episodes": episodes})
        return Piece(place, hashlib.sha256(data.encode()).hexdigest()[:16], rows, data)

    for path in files:
        records: dict[str, dict[tuple[str, int], TokenRecord]] = {}
        for one in (record for file in _token_files(path) for record in read_tokens(file)):
            records.setdefault(one.episode, {})[one.seat, one.turn] = one
        for episode in read_parquet(path, ids=records):
            before = len(texts.texts)
            tokens = token_turns(episode, records.get(episode.id, {}), vocabulary, texts)
            rows.append(row(episode, bool(tokens)))
            episodes.append(whole(episode, place, path.name, texts, tokens))
            size += 100 * len(episode.turns) + sum(map(len, texts.texts[before:]))
            size += sum(40 * len(one["said"]) for one in tokens.values())
            if len(rows) == EPISODES or size > CHARACTERS:
                yield piece()
                rows, episodes, texts, size = [], [], Texts(), 0
    if rows:
        yield piece()


def _token_files(path: Path) -> list[Path]:
    """Those of the same update; one process may have trained on what another played."""
    folder, update = path.parent.parent / "tokens", _FILE.fullmatch(path.name)[1]
    return sorted([*folder.glob(f"update-{update}.parquet"), *folder.glob(f"update-{update}-*.parquet")])


@functools.lru_cache(100_000)
def _rows(path: str, *state: int) -> int:
    """How many episodes a file in this state holds."""
    try:
        return pq.read_metadata(path).num_rows
    except (OSError, ValueError) as error:
        raise RunFolderError(f"episodes: {path} is not readable as Parquet: {error}") from None


def _stamp(path: Path) -> Stamp:
    facts = path.stat()
    return str(path), facts.st_mtime_ns, facts.st_size
