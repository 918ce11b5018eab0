"""Which recorded turns an offline stage trains on, and their rows. Pure: no model, no file.

Filters of episodes go by what a seat earned in them; filters of turns by seat, step and whether the answer could be
read. A turn that is filtered out stays in the context of later ones; the loss passes over it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from marft.episode import Episode, Turn
from marft.errors import RecipeError
from marft.stages.sources import Batch
from marft.stages.values import turn_values, worth
from marft.train.rows import Row, build_rows
from marft.train.table import duplicates


@dataclass(frozen=True)
class Filters:
    """What is kept; the defaults keep everything that an agent said.

    seats: seat -> agent, whose adapter learns what was said there, whoever spoke; None: each agent what it said itself.
    reward: whose earnings count, the seat's `own` or the sum over all seats, `team`.
    min_reward: of an episode, for the seat. top_share: of the episodes of one instance, the best for the seat, rounded
    up; of equals those played first. only_seats: none given, all. steps, updates, versions: first and last, of the
    game's clock, of the run, of the agent that spoke. above: only turns whose node is worth more, see `values`; of
    pairs, the chosen one must be worth more and the rejected one not.
    texts: what has no token ids counts too, scripted play and remote endpoints; its agent is then the policy's name.
    """

    seats: Mapping[str, str] | None = None
    reward: Literal["own", "team"] = "own"
    min_reward: float | None = None
    top_share: float | None = None
    only_seats: tuple[str, ...] = ()
    steps: tuple[int, float] = (0, math.inf)
    valid_only: bool = False
    updates: tuple[int, float] = (0, math.inf)
    versions: tuple[float, float] = (-math.inf, math.inf)
    above: float | None = None
    texts: bool = False

    def takes(self, turn: Turn) -> bool:
        """Whether a turn may be trained, whatever its episode earned."""
        return (
            turn.agent is not None
            and (self.texts or bool(turn.completion_ids))
            and (not self.only_seats or turn.seat in self.only_seats)
            and self.steps[0] <= turn.step <= self.steps[1]
            and self.versions[0] <= turn.version <= self.versions[1]
            and not (self.valid_only and turn.invalid)
        )


def as_agents(batches: Iterable[Batch], filters: Filters, statuses: Sequence[str] = ("done",)) -> list[Batch]:
    """The batches' episodes of these statuses, with the turns' agents as the filters assign them."""
    found = []
    low, high = filters.updates
    for batch in batches:
        episodes = [one for one in batch.episodes if one.status in statuses and low <= one.update <= high]
        if filters.seats is not None:
            episodes = [_reassigned(episode, filters.seats) for episode in episodes]
        elif filters.texts:
            episodes = [_with_speakers(episode) for episode in episodes]
        found.append(Batch(batch.source, episodes))
    return found


def _reassigned(episode: Episode, seats: Mapping[str, str]) -> Episode:
    turns = [
        replace(turn, agent=seats.get(turn.seat) if turn.completion_ids else None) for turn in episode.turns
    ]  # what scripted players and remote endpoints say has no ids
    return replace(episode, turns=turns)


def _with_speakers(episode: Episode) -> Episode:
    """The episode with the policy's name as agent of each turn that no learner spoke."""
    return replace(episode, turns=[replace(turn, agent=turn.agent or turn.policy) for turn in episode.turns])


def kept_plays(episodes: Sequence[Episode], filters: Filters) -> set[tuple[int, str]]:
    """(number of the episode, seat) of those that pass the filters by reward."""
    groups: dict[tuple, list[tuple[float, int]]] = defaultdict(list)
    for number, episode in enumerate(episodes):
        for seat in episode.seats:
            value = worth(episode, seat, filters.reward)
            groups[episode.group, episode.seed, seat].append((value, number))
    kept = set()
    for (*_, seat), plays in groups.items():
        if filters.top_share is not None:
            plays = sorted(plays, key=lambda play: (-play[0], play[1]))[: math.ceil(filters.top_share * len(plays))]
        low = -math.inf if filters.min_reward is None else filters.min_reward
        kept.update((number, seat) for value, number in plays if value >= low)
    return kept


def kept_turns(episodes: Sequence[Episode], filters: Filters) -> np.ndarray:
    """(U,) the turn's own number where it passes all filters, else -1. What branches of a tree share passes once."""
    plays = kept_plays(episodes, filters)
    turns = [(number, turn) for number, episode in enumerate(episodes) for turn in episode.turns]
    keep_U = [(number, turn.seat) in plays and filters.takes(turn) for number, turn in turns]
    if filters.above is not None:
        values = (value for values in turn_values(episodes, filters.reward) for value in values)
        keep_U = [keep and value > filters.above for keep, value in zip(keep_U, values, strict=True)]
    own_U, seen = np.full(len(turns), -1), set()
    for number, same in enumerate(duplicates(episodes)):
        if keep_U[number] and same not in seen:
            seen.add(same)
            own_U[number] = number
    return own_U


def sft_rows(batches: Iterable[Batch], filters: Filters) -> dict[str, list[Row]]:
    """agent -> rows whose targets are the ids of its turns that pass; each ends with its last target.

    A seat's dialogue is one row as long as its context only grew. What branches of a tree share is trained once.
    """
    rows: dict[str, list[Row]] = {}
    for batch in as_agents(batches, filters):
        own_U = kept_turns(batch.episodes, filters)
        for agent, found in build_rows(batch.episodes, same_U=own_U).items():
            rows.setdefault(agent, []).extend(row.only(np.ones(len(row.targets), bool)) for row in found)
    return rows


def read_steps(text: str | None, flag: str = "--steps") -> tuple[int, float]:
    """ "3" is that step, "2-5" both and what lies between, "2-" all from there on."""
    if text is None:
        return 0, math.inf
    first, dash, last = text.partition("-")
    try:
        low = int(first)
        high = float(int(last)) if last else math.inf if dash else float(low)
    except ValueError:
        low, high = 1, 0.0
    if not 0 <= low <= high:
        raise RecipeError(f"{flag} {text!r}: must read 3, 2-5 or 2-")
    return low, high
