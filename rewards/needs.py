"""Rewards that want a package of the extra `reasoning`: told when a recipe is read, not at the first text."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, TypeVar

Reward = TypeVar("Reward", bound=Callable[..., Any])


def needs(package: str) -> Callable[[Reward], Reward]:
    """Mark a reward as one that imports `package`."""

    def mark(reward: Reward) -> Reward:
        reward.package = package
        return reward

    return mark


def missing(reward: Callable[..., Any]) -> str | None:
    """The package that a reward needs and that is not installed."""
    package = getattr(reward, "package", None)
    return package if package is not None and find_spec(package) is None else None
