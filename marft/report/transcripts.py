"""Episodes as data for the page's browser: one short row each for its list, and the whole of it.

Texts are made `visible`, stored once a piece, and cut in the middle where they are very long; the page says so. Seeds
are texts, since JavaScript's numbers cannot hold them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from marft.answers import same_answer
from marft.episode import Episode, Turn
from marft.games.debate_metrics import answers_of
from marft.report.text import one_line, visible

TEXT_LIMIT = 20_000
"""Characters of one text that are shown."""

GLANCE = 72
"""Characters of an episode that its row in the list shows."""


def score(episode: Episode) -> float:
    """What episodes are sorted by: the mean return of the seats that learners fill, of all seats without learners."""
    returns = episode.returns()
    learning = {turn.seat for turn in episode.turns if turn.agent is not None}
    counted = [value for seat, value in returns.items() if seat in learning] or list(returns.values())
    return math.fsum(counted) / len(counted) if counted else 0.0


def flips(episode: Episode) -> tuple[int, int]:
    """How many seats changed from a right first answer to a wrong last one, and the other way.

    Of games that know the right answer and ask for one more than once; judges do not count.
    """
    truth, roles = episode.facts.get("answer"), episode.facts.get("roles")
    if not isinstance(truth, str):
        return 0, 0
    given: dict[str, list[str | None]] = {}
    for turn in episode.turns:
        if answers_of(turn) and not (isinstance(roles, Mapping) and roles.get(turn.seat) == "judge"):
            given.setdefault(turn.seat, []).append(turn.action["answer"])
    ends = [(same_answer(one[0], truth), same_answer(one[-1], truth)) for one in given.values() if len(one) > 1]
    return ends.count((True, False)), ends.count((False, True))


def row(episode: Episode, recorded: bool) -> dict[str, Any]:
    """The episode in the list. `recorded`: whether tokens of it can be looked at."""
    spoiled, mended = flips(episode)
    return {
        "id": visible(episode.id),
        "update": episode.update,
        "game": visible(episode.game),
        "team": [visible(episode.team.get(seat, "?")) for seat in episode.seats],
        "status": visible(episode.status),
        "score": _plain(score(episode)),
        "invalid": sum(turn.invalid for turn in episode.turns),
        "cut": sum(turn.truncated for turn in episode.turns),
        "spoiled": spoiled,
        "mended": mended,
        "tokens": int(recorded),
        "glance": glance(episode),
    }


def glance(episode: Episode) -> str:
    """One letter a move where a game's actions are that short, else how the last turn begins, or why it failed."""
    if episode.failed and episode.cause:
        return one_line(episode.cause, GLANCE)
    moves = {
        seat: [turn.action for turn in episode.turns_of(seat) if turn.action is not None] for seat in episode.seats
    }
    if all(said and all(isinstance(one, str) and len(one) <= 2 for one in said) for said in moves.values()):
        return one_line("  ".join(f"{seat} {''.join(said)}" for seat, said in moves.items()), GLANCE)
    return one_line(episode.turns[-1].text, GLANCE) if episode.turns else ""


class Texts:
    """Every text once; most turns of a game say and hear the same few."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._places: dict[str, int] = {}

    def __call__(self, text: Any) -> int:
        text = str(text)
        if text not in self._places:
            self._places[text] = len(self.texts)
            self.texts.append(visible(_cut(text)))
        return self._places[text]


def whole(
    episode: Episode, run: int, file: str, texts: Texts, tokens: Mapping[int, Mapping[str, Any]]
) -> dict[str, Any]:
    """All of the episode; tokens: turn's number in the episode -> what is known of its tokens. Known to episode.js."""
    seats = list(episode.seats)
    return {
        "run": run,
        "id": visible(episode.id),
        "file": file,
        "update": episode.update,
        "game": visible(episode.game),
        "seed": str(episode.seed),
        "status": visible(episode.status),
        "cause": visible(_cut(episode.cause)) if episode.cause is not None else None,
        "seats": [visible(seat) for seat in seats],
        "team": [visible(episode.team.get(seat, "?")) for seat in seats],
        "returns": [_plain(value) for value in episode.returns().values()],
        "rewards": [[_plain(step.get(seat)) for seat in seats] for step in episode.rewards],
        "terms": {
            visible(name): [_total(by_seat.get(seat)) for seat in seats] for name, by_seat in episode.terms.items()
        },
        "facts": texts(json.dumps(episode.facts, ensure_ascii=False)) if episode.facts else None,
        "turns": [_turn(turn, seats, texts) for turn in episode.turns],
        **({"tokens": {str(number): found for number, found in tokens.items()}} if tokens else {}),
    }


def _turn(turn: Turn, seats: Sequence[str], texts: Texts) -> list[Any]:
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


def _cut(text: str) -> str:
    if len(text) <= TEXT_LIMIT:
        return text
    head, tail = TEXT_LIMIT * 5 // 8, TEXT_LIMIT * 3 // 8
    note = f"[… {len(text) - head - tail} characters left out here; the file on disk has them …]"
    return f"{text[:head]}\n{note}\n{text[-tail:]}"


def _total(values: Sequence[float] | None) -> float | None:
    return _plain(math.fsum(values)) if values else None


def _plain(value: float | None) -> float | None:
    """A number JSON can hold; None where there is none."""
    return round(value, 6) if value is not None and math.isfinite(value) else None
