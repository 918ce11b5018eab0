"""Turn and Episode: what was played, as plain data.

An episode holds everything that later stages need and nothing that can be computed from it. Token ids are those that
the engine saw and sampled; no stage re-encodes text. A turn stores only the prompt ids that are *new* to its seat, so
an episode's size grows with the dialogue and not with its square; `contexts` puts the whole sequences back together.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(slots=True)
class Turn:
    """One generation by one seat.

    prompt_ids: ids added to the seat's context before this completion; the whole context where `fresh` is true.
    fresh: the context starts anew here: the seat's first turn, or a chat template that rewrote earlier turns.
    logprobs: log-probability of each completion id under the distribution it was sampled from; empty when not sampled
        by an engine that knows them (scripted, remote).
    agent: the learner whose adapter spoke, None for frozen, scripted and remote policies.
    version: the agent's policy version that spoke, -1 where there is none.
    marks: what credit should know of the decision (see `Game.marks`), and its place where the rollout branches.
    """

    seat: str
    step: int
    order: int
    policy: str
    text: str
    messages: list[tuple[str, str]] = field(default_factory=list)
    agent: str | None = None
    version: int = -1
    prompt_ids: list[int] = field(default_factory=list)
    fresh: bool = True
    completion_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finish_reason: str = "stop"
    action: Any = None
    invalid: bool = False
    marks: dict[str, Any] = field(default_factory=dict)

    @property
    def truncated(self) -> bool:
        return self.finish_reason == "length"


@dataclass(slots=True)
class Episode:
    """One play of a game.

    id: unique in a run, "u000012-g003-e05" and "+1" for its first replacement, and so on.
    group, index: which group it belongs to, and its place there. Episodes of a group share `seed`, the instance.
    team: seat -> policy, in the recipe's words ("alice", "scripted:TFT", "frozen:path").
    rewards: the game's payoffs, one {seat: value} per step of its clock.
    terms: what the reward functions gave, weighted: name -> seat -> one value per step. What is trained on.
    status: "done"; "failed", with its `cause`; "partial", a branch that was sampled, paid and not played on.
    failures: what went wrong in grading: a reward's name -> the cause. The episode is failed where nothing was paid.
    """

    id: str
    game: str
    seats: tuple[str, ...]
    team: dict[str, str]
    seed: int
    group: int = 0
    index: int = 0
    attempt: int = 0
    update: int = 0
    turns: list[Turn] = field(default_factory=list)
    rewards: list[dict[str, float]] = field(default_factory=list)
    terms: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    status: str = "done"
    cause: str | None = None
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        return self.status == "failed"

    def returns(self) -> dict[str, float]:
        """Undiscounted sum of the game's payoffs per seat."""
        return {seat: math.fsum(step.get(seat, 0.0) for step in self.rewards) for seat in self.seats}

    def turns_of(self, seat: str) -> Iterator[Turn]:
        return (turn for turn in self.turns if turn.seat == seat)

    def contexts(self, seat: str) -> Iterator[tuple[Turn, list[int]]]:
        """Each turn of `seat` with the whole prompt it was sampled from, as token ids."""
        context: list[int] = []
        for turn in self.turns_of(seat):
            context = list(turn.prompt_ids) if turn.fresh else context + turn.prompt_ids
            yield turn, context
            context = context + turn.completion_ids

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-able data; `from_dict` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Episode:
        turns = [
            Turn(**{**turn, "messages": [tuple(message) for message in turn["messages"]]}) for turn in data["turns"]
        ]
        return cls(**{**data, "seats": tuple(data["seats"]), "turns": turns})


def finished(episodes: Sequence[Episode]) -> list[Episode]:
    """The episodes that came to their end: what a game's metrics are about."""
    return [episode for episode in episodes if episode.status == "done"]


def learnable(episodes: Sequence[Episode]) -> list[Episode]:
    """The episodes that credit looks at: finished ones and branches. Failed ones are kept on disk, never scored."""
    return [episode for episode in episodes if not episode.failed]
