"""The updates of agents on several bases: one Updater a base. Nothing of a step crosses from one to another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from marft.bank import AdapterBank
from marft.banks import AnyBank, Banks, HomeOf
from marft.config import Recipe
from marft.records import TokenRecords
from marft.train.update import Updater
from marft.train.workers import Workers


class Updaters:
    """Updaters by their base's key. home: who is on which; anchors, records: of all agents, each Updater looks
    up and adds its own."""

    def __init__(
        self, each: Mapping[str, Updater], home: HomeOf, anchors: dict[str, str], records: TokenRecords
    ) -> None:
        self._each, self._home, self.anchors, self.records = each, home, anchors, records

    def of(self, agent: str) -> Updater:
        return self._each[self._home(agent)[0]]


def make_updater(recipe: Recipe, bank: AnyBank, workers: Workers) -> Updater | Updaters:
    """What updates the recipe's agents."""
    anchors: dict[str, str] = {}
    records = TokenRecords()

    def one(own: AdapterBank) -> Updater:
        return Updater(own, recipe.algorithm, recipe.sampling, recipe.train, workers, recipe.seed, anchors, records)

    if isinstance(bank, Banks):
        return Updaters({key: one(own) for key, own in bank.each.items()}, bank.home, anchors, records)
    return one(bank)


def by_base(updater: Updater | Updaters, agents: Sequence[str]) -> list[tuple[Updater, list[str]]]:
    """The agents that one Updater updates, in their order."""
    parts: dict[int, tuple[Updater, list[str]]] = {}
    for agent in agents:
        own = updater.of(agent)
        parts.setdefault(id(own), (own, []))[1].append(agent)
    return list(parts.values())
