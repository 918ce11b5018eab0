"""Earlier versions of agents as opponents: taken while training, kept in the run folder, forgotten when too old."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from marft.banks import AnyBank
from marft.config import Recipe
from marft.errors import RunFolderError
from marft.rollout import PAST
from marft.train.optimizer import Learner


class PastSelves:
    """The adapters behind "past:alice@20". On disk they stay; in the bank are those that may be drawn now."""

    def __init__(self, recipe: Recipe, bank: AnyBank, folder: Path) -> None:
        self.recipe, self.bank, self.folder = recipe, bank, folder
        self.agents = sorted({policy.past for policy in recipe.policies.values() if policy.past is not None})

    def follow(self, learners: Mapping[str, Learner], write: bool, keep: Collection[str] = ()) -> None:
        """Bring the bank to the learners' present versions.

        write: whether this process stores what is new. keep: those that still play stay, however old.
        """
        for agent in self.agents:
            version = learners[agent].version
            due = {PAST.format(agent, number): number for number in self.recipe.past.versions(version)}
            bank = self.bank.of(agent)
            held = [name for name in bank.names if name.startswith(PAST.format(agent, ""))]
            for name in held:
                if name not in due and name not in keep:
                    bank.remove(name)
            for name, number in due.items():
                if name in bank.names:
                    continue
                place = self.folder / agent / f"{number:06d}"
                if number == version:
                    bank.copy(agent, name)
                    if write:
                        bank.save(name, place)
                elif place.is_dir():
                    bank.load(name, place)
                else:
                    raise RunFolderError(f"past: {place} is missing, the adapter of {agent} at version {number}")
