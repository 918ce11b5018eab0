"""Episodes to training rows.

All turns of one seat in an episode are one row as long as each prompt extends the one before, so a row costs the
dialogue's length and not its square. The loss stands on the ids the agent sampled, its end-of-turn token included and
nothing else; what several branches of a tree share is trained once. Pure data: no model, no file.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from marft.episode import Episode
from marft.train.table import duplicates


@dataclass(slots=True)
class Row:
    """One training sequence of one agent.

    ids: (L,) token ids. targets: (N,) the positions in `ids` that are trained, ascending.
    engine: (N,) log-probs under the engine's policy. advantage: (N,). turn: (N,) index of the turn in the turn table.
    token: (N,) index among all sampled tokens of the batch, turn after turn. place: (N,) the number of the turn among
    its seat's turns. copies: (N,) how often a token counts. episode: its number in the batch. foreign: whether another
    agent than the one that learns from it sampled it. version: (N,) the policy version that sampled; None for the
    present one. label: episode id and seat, where its tokens are to be recorded (`marft.records`).
    """

    agent: str
    ids: np.ndarray
    targets: np.ndarray
    engine: np.ndarray
    advantage: np.ndarray
    turn: np.ndarray
    token: np.ndarray
    place: np.ndarray
    copies: np.ndarray
    episode: int = 0
    foreign: bool = False
    version: np.ndarray | None = None
    label: tuple[str, str] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def only(self, keep_N: np.ndarray) -> Row:
        """The row with these of its targets, cut after the last of them."""
        end = int(self.targets[keep_N].max(initial=-1)) + 1
        names = ["targets", "engine", "turn", "token", "place", "advantage", "copies"]
        names += ["version"] if self.version is not None else []
        return replace(self, ids=self.ids[:end], **{name: getattr(self, name)[keep_N] for name in names})

    def played_by(self, version: int) -> np.ndarray:
        """(N,) whether the learner's own policy of this version sampled the token."""
        if self.foreign:
            return np.zeros(len(self.targets), dtype=bool)
        return np.ones(len(self.targets), dtype=bool) if self.version is None else self.version == version


def build_rows(
    episodes: Sequence[Episode],
    advantage_U: np.ndarray | None = None,
    same_U: np.ndarray | None = None,
    labelled: Container[int] = (),
) -> dict[str, list[Row]]:
    """Rows of each agent, in the order of the episodes.

    advantage_U: one number per row of their turn table. same_U: `duplicates(episodes)`, where it is known already.
    labelled: numbers of the episodes whose tokens are to be recorded.
    """
    rows: dict[str, list[Row]] = {}
    same_U = duplicates(episodes) if same_U is None else same_U
    sizes = [len(turn.completion_ids) for episode in episodes for turn in episode.turns]
    offset_U = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    start = 0
    for number, episode in enumerate(episodes):
        numbers = {id(turn): start + offset for offset, turn in enumerate(episode.turns)}
        start += len(episode.turns)
        for seat in episode.seats:
            place = 0
            for turns in _unbroken(episode, seat):
                row = _row(turns, numbers, number, place, same_U, offset_U)
                place += len(turns)
                if number in labelled:
                    row.label = (episode.id, seat)
                if len(row.targets):
                    rows.setdefault(row.agent, []).append(row)
    if advantage_U is None:
        return rows
    return {agent: with_advantages(own, advantage_U) for agent, own in rows.items()}


def with_advantages(
    rows: Sequence[Row], advantage_U: np.ndarray, copies_U: np.ndarray | None = None, *, by_token: bool = False
) -> list[Row]:
    """The rows with their advantages, by turn, or by token of the batch; turns that count no times are left out."""
    found = []
    for row in rows:
        copies = np.ones(len(row.turn)) if copies_U is None else copies_U[row.turn]
        row = replace(row, advantage=advantage_U[row.token if by_token else row.turn], copies=copies)
        if not copies.all():
            row = row.only(copies > 0)
        if len(row.targets):
            found.append(row)
    return found


def _unbroken(episode: Episode, seat: str) -> Iterator[list]:
    """A learner's turns, cut where the context starts afresh."""
    run: list = []
    for turn in episode.turns_of(seat):
        if turn.agent is None:
            return
        if turn.fresh and run:
            yield run
            run = []
        run.append(turn)
    if run:
        yield run


def _row(
    turns: Sequence, numbers: Mapping[int, int], episode: int, place: int, same_U: np.ndarray, offset_U: np.ndarray
) -> Row:
    ids: list[int] = []
    targets: list[int] = []
    engine: list[float] = []
    owner: list[int] = []
    token: list[int] = []
    places: list[int] = []
    versions: list[int] = []
    for turn in turns:
        ids.extend(turn.prompt_ids)
        number, count = numbers[id(turn)], len(turn.completion_ids)
        if same_U[number] == number:
            targets.extend(range(len(ids), len(ids) + count))
            engine.extend(turn.logprobs)
            owner.extend([number] * count)
            token.extend(range(offset_U[number], offset_U[number] + count))
            places.extend([place] * count)
            versions.extend([turn.version] * count)
        ids.extend(turn.completion_ids)
        place += 1
    turn_N = np.array(owner, dtype=np.int64)
    return Row(
        agent=turns[0].agent,
        ids=np.array(ids, dtype=np.int64),
        targets=np.array(targets, dtype=np.int64),
        engine=np.array(engine),
        advantage=np.zeros(len(turn_N)),
        turn=turn_N,
        token=np.array(token, dtype=np.int64),
        place=np.array(places, dtype=np.int64),
        copies=np.ones(len(turn_N)),
        episode=episode,
        version=np.array(versions, dtype=np.int64),
    )
