"""What a critic looks at: sequences of token ids, and the positions at which a value is read. Pure data.

Own views are the seats' own contexts. The joint view of an episode is one sequence of all that was shown and said, in
the order of the game, each piece behind its seat's name; so its cost grows with the episode's length and not with its
square. Wherever it is read, a value has seen nothing of the action it judges.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from marft.episode import Episode, Turn


@dataclass(slots=True)
class View:
    """One sequence that a critic reads.

    ids: (L,) token ids. targets: (M,) positions before which a value is read, as for a training row. turn: (M,) index
    of the turn in the turn table. token: (M,) index of the token among all sampled tokens of the batch. seat: (M,) the
    seat's number in its episode.
    """

    ids: np.ndarray
    targets: np.ndarray
    turn: np.ndarray
    token: np.ndarray
    seat: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)


class _Writer:
    """A view in the making."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.marks: list[tuple[int, int, int, int]] = []

    def read(self, turn: int, token: int, seat: int, ahead: int = 0) -> None:
        """A value is read before the id that comes next, or `ahead` ids later."""
        self.marks.append((len(self.ids) + ahead, turn, token, seat))

    def done(self) -> View:
        marks = np.array(self.marks, dtype=np.int64).reshape(-1, 4)
        return View(np.array([*self.ids, 0], dtype=np.int64), *marks.T)  # one id more: a target must be in the row


def own_views(episodes: Sequence[Episode], by_token: bool = False) -> list[View]:
    """Each seat's own context, where a model speaks for it; values before each turn, or before each of its tokens."""
    views = []
    for episode, numbers, tokens in _numbered(episodes):
        for place, seat in enumerate(episode.seats):
            writer = None
            for turn in episode.turns_of(seat):
                if not turn.completion_ids:
                    continue
                if writer is None or turn.fresh:
                    if writer is not None:
                        views.append(writer.done())
                    writer = _Writer()
                writer.ids.extend(turn.prompt_ids)
                for ahead in range(len(turn.completion_ids) if by_token else 1):
                    writer.read(numbers[id(turn)], tokens[id(turn)] + ahead, place, ahead)
                writer.ids.extend(turn.completion_ids)
            if writer is not None:
                views.append(writer.done())
    return views


def joint_views(
    episodes: Sequence[Episode], encode: Callable[[str], Sequence[int]], chain: bool, by_token: bool = False
) -> list[View]:
    """One sequence an episode: of each decision what its seats were shown, then what they said.

    encode: a text to plain token ids. chain: the value of a seat that moves at the same time as others has seen what
    the seats before it in `order` said (MARFT's sequence of agents); otherwise it has seen none of them.
    """
    views = []
    for episode, numbers, tokens in _numbered(episodes):
        writer = _Writer()
        names = {seat: list(encode(f"\n{seat}: ")) for seat in episode.seats}
        places = {seat: place for place, seat in enumerate(episode.seats)}
        for decision in _decisions(episode):
            for turn in decision:
                writer.ids.extend(names[turn.seat])
                writer.ids.extend(turn.prompt_ids or _shown(turn, encode))
            if not chain and not by_token:
                for turn in decision:
                    writer.read(numbers[id(turn)], tokens[id(turn)], places[turn.seat])
            for turn in decision:
                said = turn.completion_ids or list(encode(turn.text))
                writer.ids.extend(names[turn.seat])
                if chain or by_token:
                    for ahead in range(len(turn.completion_ids) if by_token else 1):
                        writer.read(numbers[id(turn)], tokens[id(turn)] + ahead, places[turn.seat], ahead)
                writer.ids.extend(said)
        views.append(writer.done())
    return views


def _shown(turn: Turn, encode: Callable[[str], Sequence[int]]) -> list[int]:
    """What a seat without a model was shown."""
    return [token for _, text in turn.messages for token in encode(text)]


def _numbered(episodes: Sequence[Episode]) -> Iterator[tuple[Episode, dict[int, int], dict[int, int]]]:
    """Each episode with its turns' numbers in the turn table, and the number of each turn's first token."""
    number = token = 0
    for episode in episodes:
        numbers, tokens = {}, {}
        for turn in episode.turns:
            numbers[id(turn)], tokens[id(turn)] = number, token
            number, token = number + 1, token + len(turn.completion_ids)
        yield episode, numbers, tokens


def _decisions(episode: Episode) -> Iterator[list[Turn]]:
    """Turns that were taken at the same time; each decision counts its turns from 0."""
    decision: list[Turn] = []
    for turn in episode.turns:
        if turn.order == 0 and decision:
            yield decision
            decision = []
        decision.append(turn)
    if decision:
        yield decision
