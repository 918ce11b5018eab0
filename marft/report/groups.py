"""Runs that differ in nothing but their seed, as one: a middle and the span over seeds in place of one number.

The middle is the interquartile mean over seeds. Curves show the span from the lowest to the highest seed; tables the
95 % interval of the bootstrap over seeds (`marft.eval.intervals.over_seeds`), or that span where the seeds are too few
for an interval to cover what it should.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from marft.eval.intervals import interquartile_mean, over_seeds
from marft.eval.results import Measure
from marft.report.runs import Run

FEW = 5
"""Seeds below which the bootstrap's interval is no better than the span of what was seen, only shorter."""

Span = tuple[list[float], list[float]]


@dataclass(frozen=True)
class Group:
    """Runs of one recipe, or one run. It answers what a Run answers, for all of them together."""

    name: str
    runs: Sequence[Run]

    @property
    def recipe(self) -> Mapping[str, Any]:
        return self.runs[0].recipe

    @property
    def several(self) -> bool:
        return len(self.runs) > 1

    @property
    def lines(self) -> int:
        """Updates of the run that has come farthest."""
        return max(len(run.lines) for run in self.runs)

    def metrics(self) -> list[str]:
        return list(dict.fromkeys(key for run in self.runs for key in run.metrics()))

    def seats(self) -> list[str]:
        return self.runs[0].seats()

    def game(self) -> str:
        return self.runs[0].game()

    def updates(self) -> list[int]:
        return sorted({update for run in self.runs for update in run.updates()})

    def column(self, key: str) -> list[float]:
        """The middle of the seeds, update by update; NaN where no seed has a value."""
        return [interquartile_mean(values) if values else math.nan for values in self._values(key)]

    def span(self, key: str) -> Span | None:
        """The lowest and the highest seed, update by update; None for a single run."""
        if not self.several:
            return None
        values = self._values(key)
        return [min(found, default=math.nan) for found in values], [max(found, default=math.nan) for found in values]

    def recent(self, key: str) -> Measure:
        """The mean over the last updates of each seed, over seeds."""
        return self.over_seeds([run.recent(key) for run in self.runs])

    def over_seeds(self, values: Sequence[float]) -> Measure:
        """One number a run, as the middle of the seeds with its interval, where there are several seeds."""
        found = [value for value in values if math.isfinite(value)]
        if not found:
            return Measure()
        if len(found) == 1:
            return Measure(mean=found[0])
        if len(found) < FEW:
            return Measure(mean=interquartile_mean(found), low=min(found), high=max(found))
        interval = over_seeds(found)
        return Measure(mean=interval.mean, low=interval.low, high=interval.high)

    @cached_property
    def _places(self) -> dict[int, int]:
        return {update: place for place, update in enumerate(self.updates())}

    def _values(self, key: str) -> list[list[float]]:
        """The finite values of all seeds, update by update."""
        found: list[list[float]] = [[] for _ in self._places]
        for run in self.runs:
            for update, value in zip(run.updates(), run.column(key), strict=True):
                if math.isfinite(value):
                    found[self._places[update]].append(value)
        return found


def grouped(runs: Sequence[Run], given: Mapping[str, Sequence[Run]] | None = None) -> list[Group]:
    """`given` groups as they are, the other `runs` by their recipe without its seed; in the order of the runs.

    A second run of the same recipe and seed is no further seed, and stands in a group of its own.
    """
    of_run = {id(run): name for name, members in (given or {}).items() for run in members}
    groups: dict[tuple[str, str, int], list[Run]] = {}
    for run in runs:
        name, recipe, again = of_run.get(id(run), ""), "", 0
        if not name:
            recipe, seed = _without_seed(run), run.recipe.get("seed")
            while any(one.recipe.get("seed") == seed for one in groups.get((name, recipe, again), ())):
                again += 1
        groups.setdefault((name, recipe, again), []).append(run)
    return list(_distinct((name or _name(members), members) for (name, _, _), members in groups.items()))


def _without_seed(run: Run) -> str:
    return repr(sorted((key, value) for key, value in run.recipe.items() if key != "seed"))


def _name(members: Sequence[Run]) -> str:
    return members[0].name if len(members) == 1 else str(members[0].recipe.get("name", members[0].name))


def _distinct(named: Iterator[tuple[str, list[Run]]]) -> Iterator[Group]:
    taken: set[str] = set()
    for name, members in named:
        number, free = 1, name
        while free in taken:
            number, free = number + 1, f"{name} ({number + 1})"
        taken.add(free)
        yield Group(free, members)
