"""The episodes a report shows in full, as data for the page's viewer.

Taken from the first, the middle and the last update on disk: failed ones, then episodes spread evenly from the lowest
to the highest return, so that both ends are always there. Texts are made `visible`, stored once each, and cut in the
middle where they are very long; the page says so. Seeds are texts, since JavaScript's numbers cannot hold them.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any

from marft.episode import Episode, Turn
from marft.report.runs import Run
from marft.report.text import visible
from marft.store import read_parquet

PER_UPDATE = 20
"""Episodes taken from each of the three updates."""

FAILED = 3
"""How many of them may be failed ones."""

TEXT_LIMIT = 4000
"""Characters of one text that are shown."""

BUDGET = 400_000
"""Bytes of JSON per run; fewer episodes are taken where they would need more."""

_FILE = re.compile(r"update-(\d+)(?:-\d+)?\.parquet")


def transcripts(runs: Sequence[Run]) -> dict[str, Any]:
    """{"texts": [...], "runs": [{"name", "played"}], "episodes": [...]}; JSON-able, its form is known to viewer.js."""
    table = _Texts()
    episodes, about = [], []
    for place, run in enumerate(runs):
        chosen, played = sample(run)
        about.append({"name": visible(run.name), "played": played, "shown": len(chosen)})
        episodes += [_episode(episode, place, file, table) for episode, file in chosen]
    return {"texts": table.texts, "runs": about, "episodes": episodes}


def sample(run: Run) -> tuple[list[tuple[Episode, str]], int]:
    """The run's episodes to show, each with the name of its file, and how many its three updates hold."""
    files: dict[int, list[Any]] = {}
    for path in sorted((run.path / "episodes").glob("*.parquet")):
        if match := _FILE.fullmatch(path.name):
            files.setdefault(int(match[1]), []).append(path)
    updates = sorted(files)
    wanted = sorted({updates[0], updates[len(updates) // 2], updates[-1]}) if updates else []
    held = [[(episode, path.name) for path in files[update] for episode in read_parquet(path)] for update in wanted]
    count = PER_UPDATE
    while True:
        chosen = [pair for episodes in held for pair in _spread(episodes, count)]
        if count == 1 or _size([episode for episode, _ in chosen]) <= BUDGET:
            return chosen, sum(map(len, held))
        count = max(1, count // 2)


def score(episode: Episode) -> float:
    """What episodes are sorted by: the mean return of the seats that learners fill, of all seats without learners."""
    returns = episode.returns()
    learning = {turn.seat for turn in episode.turns if turn.agent is not None}
    counted = [value for seat, value in returns.items() if seat in learning] or list(returns.values())
    return math.fsum(counted) / len(counted) if counted else 0.0


def script_json(data: Any) -> str:
    """JSON that can stand inside a <script> element: plain ASCII without <, > and &."""
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _spread(episodes: Sequence[tuple[Episode, str]], count: int) -> list[tuple[Episode, str]]:
    failed = [pair for pair in episodes if pair[0].failed][: min(FAILED, count)]
    done = sorted((pair for pair in episodes if not pair[0].failed), key=lambda pair: (score(pair[0]), pair[0].id))
    room = min(count - len(failed), len(done))
    if room == 1:
        return [*failed, done[len(done) // 2]]
    return [*failed, *(done[round(number * (len(done) - 1) / (room - 1))] for number in range(room))]


def _size(episodes: Sequence[Episode]) -> int:
    table = _Texts()
    return len(script_json([_episode(episode, 0, "", table) for episode in episodes])) + len(script_json(table.texts))


class _Texts:
    """Every text once; most turns of a game say and hear the same few."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._places: dict[str, int] = {}

    def __call__(self, text: Any) -> int:
        text = visible(_cut(str(text)))
        if text not in self._places:
            self._places[text] = len(self.texts)
            self.texts.append(text)
        return self._places[text]


def _cut(text: str) -> str:
    if len(text) <= TEXT_LIMIT:
        return text
    head, tail = TEXT_LIMIT * 5 // 8, TEXT_LIMIT * 3 // 8
    note = f"[… {len(text) - head - tail} characters left out here; the file on disk has them …]"
    return f"{text[:head]}\n{note}\n{text[-tail:]}"


def _episode(episode: Episode, run: int, file: str, texts: _Texts) -> dict[str, Any]:
    seats = list(episode.seats)
    return {
        "run": run,
        "id": visible(episode.id),
        "file": file,
        "update": episode.update,
        "game": visible(episode.game),
        "seed": str(episode.seed),
        "status": visible(episode.status),
        "cause": visible(episode.cause) if episode.cause is not None else None,
        "score": round(score(episode), 6),
        "seats": [visible(seat) for seat in seats],
        "team": [visible(episode.team.get(seat, "?")) for seat in seats],
        "returns": [_plain(value) for value in episode.returns().values()],
        "rewards": [[_plain(step.get(seat)) for seat in seats] for step in episode.rewards],
        "terms": {
            visible(name): [_total(by_seat.get(seat)) for seat in seats] for name, by_seat in episode.terms.items()
        },
        "facts": texts(json.dumps(episode.facts, ensure_ascii=False)) if episode.facts else None,
        "turns": [_turn(turn, seats, texts) for turn in episode.turns],
    }


def _turn(turn: Turn, seats: Sequence[str], texts: _Texts) -> list[Any]:
    """[seat, step, [[role, text] …], text, action, invalid, truncated, agent's version]; texts are numbers."""
    action = None if turn.action is None else turn.action if isinstance(turn.action, str) else json.dumps(turn.action)
    heard = [[visible(role), texts(text)] for role, text in turn.messages]
    return [
        seats.index(turn.seat) if turn.seat in seats else -1,
        turn.step,
        heard,
        texts(turn.text),
        None if action is None else texts(action),
        int(turn.invalid),
        int(turn.truncated),
        turn.version,
    ]


def _total(values: Sequence[float] | None) -> float | None:
    return _plain(math.fsum(values)) if values else None


def _plain(value: float | None) -> float | None:
    """A number JSON can hold; None where there is none."""
    return round(value, 6) if value is not None and math.isfinite(value) else None
