"""Which groups may start, and which an update takes: the bound on staleness. Pure: no clock, no task, no thread.

A group is started on a ticket, a whole number that no other group of the run has. As in AReaL (2505.24298), groups that
were started and not dropped number at most (update + staleness + 1) · groups, so play runs no further ahead than the
bound allows. That alone does not keep the bound, since a slow group is overtaken by later ones; so it is enforced again
where groups are taken. Every ticket is open, or taken, or dropped, and one of these once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from marft.episode import Episode


@dataclass(frozen=True)
class Group:
    """A group that is whole: its episodes, failures included, and the oldest version of each agent that spoke in it."""

    ticket: int
    episodes: list[Episode]
    oldest: Mapping[str, int]

    def staleness(self, versions: Mapping[str, int]) -> int:
        """How many versions the oldest turn of a learner lies behind."""
        return max((versions[agent] - version for agent, version in self.oldest.items()), default=0)


def whole(ticket: int, episodes: list[Episode]) -> Group:
    """A group as it comes from the rollout."""
    oldest: dict[str, int] = {}
    for episode in episodes:
        if not episode.failed:
            for turn in episode.turns:
                if turn.agent is not None:
                    oldest[turn.agent] = min(turn.version, oldest.get(turn.agent, turn.version))
    return Group(ticket, episodes, oldest)


class Window:
    """The groups of one process on their way to its updates.

    groups: how many an update takes. updates: of the run; nothing is started for later ones. tickets: the numbers of
    the groups to start, in order. update: the first one to make.
    """

    def __init__(self, groups: int, staleness: int, updates: int, tickets: Iterable[int], update: int = 0) -> None:
        self.groups, self.staleness, self.updates, self.update = groups, staleness, updates, update
        self.playing: set[int] = set()
        self.ready: list[Group] = []
        self.dropped = 0
        self._taken = update * groups
        self._tickets: Iterator[int] = iter(tickets)

    @property
    def started(self) -> int:
        """Groups started and not dropped, those of earlier updates included."""
        return self._taken + len(self.ready) + len(self.playing)

    @property
    def exhausted(self) -> bool:
        """Whether all groups of the run have been started."""
        return self.update + self.staleness + 1 >= self.updates

    @property
    def open(self) -> list[int]:
        """Tickets of the groups that have been started and neither taken nor dropped."""
        return sorted([*self.playing, *(group.ticket for group in self.ready)])

    def admit(self) -> list[int]:
        """Tickets of the groups to start now."""
        last = min(self.update + self.staleness + 1, self.updates) * self.groups
        new = [next(self._tickets) for _ in range(last - self.started)]
        self.playing.update(new)
        return new

    def finish(self, group: Group) -> None:
        """A group that was started is whole."""
        self.playing.remove(group.ticket)
        self.ready.append(group)

    def drop_stale(self, versions: Mapping[str, int]) -> int:
        """Drop what is too old to be taken at these versions; how many episodes that were."""
        ages = [(group.staleness(versions), group) for group in self.ready]
        stale = [group for age, group in ages if age > self.staleness]
        self.ready = [group for age, group in ages if age <= self.staleness]
        self.dropped += len(stale)
        return sum(not episode.failed for group in stale for episode in group.episodes)

    def take(self, most: int) -> list[Group]:
        """Up to `most` of the groups that are ready, those that were whole first."""
        taken, self.ready = self.ready[:most], self.ready[most:]
        self._taken += len(taken)
        return taken
