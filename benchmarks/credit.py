"""Seconds that each preset needs for the advantages of 1,000,000 turns: 10,000 episodes × 25 steps × 4 seats.

Columns are of the types that the trainer's turn table has, seats and agents by name. A preset gets the further columns
that it is made for: critics a value, m_grpo and public_baseline roles and reward terms, trees nodes and their parents.
"""

from __future__ import annotations

import time

import numpy as np
from timing import medians

from marft.credit import PRESETS, assess

EPISODES, STEPS, GROUP = 10_000, 25, 8
SEATS = np.array(["alice", "bob", "carol", "dave"])
WANTED = {
    "m_grpo": ("role", "call", "format", "correct", "judge"),
    "public_baseline": ("role", "safety", "task", "format"),
    "umad": ("nll",),
    "magrpo": ("node", "parent"),
    "at_grpo": ("node", "parent"),
}


def table(rounds: int) -> list[tuple[str, str]]:
    """The critic-free presets, slowest first, then those with a critic."""
    columns = turns()
    tables = {name: _of_preset(name, columns) for name in PRESETS}
    seconds = medians(
        {name: lambda name=name: assess(name, tables[name]) for name in PRESETS}, rounds, time.process_time
    )
    critics = {name for name in PRESETS if "critic" in PRESETS[name].needs}
    slowest_first = sorted(PRESETS, key=lambda name: (name in critics, -seconds[name]))
    return [
        (f"{name}{', values given' if name in critics else ''}", f"{seconds[name]:.2f} s") for name in slowest_first
    ]


def turns() -> dict[str, np.ndarray]:
    """Every column that some preset reads."""
    rng = np.random.default_rng(0)
    episode, step, seat = (index.ravel() for index in np.indices((EPISODES, STEPS, len(SEATS))))
    n = len(episode)
    return {
        "episode": episode,
        "group": episode // GROUP,
        "game": np.full(n, "negotiation"),
        "seat": SEATS[seat],
        "agent": SEATS[seat],
        "step": step,
        "order": np.tile(np.arange(STEPS * len(SEATS)), EPISODES),
        "reward": rng.normal(size=n),
        "tokens": rng.integers(1, 200, n),
        "acted": np.ones(n, bool),
        "value": rng.normal(size=n),
        "nll": rng.random(n),
        "role": np.array(["main", "sub", "sub", "sub"])[seat],
        "call": step,
        **{name: rng.integers(0, 2, n).astype(float) for name in ("format", "correct", "judge", "safety", "task")},
        "node": _node(episode, step),
        "parent": np.where(step > 0, _node(episode, step - 1), -1),
    }


def _node(episode: np.ndarray, step: np.ndarray) -> np.ndarray:
    """A group's episodes are the paths of one tree, which forks in two after 6, 12 and 18 steps."""
    branch = (episode % GROUP) >> np.maximum(3 - step // 6, 0)
    return (episode // GROUP * STEPS + step) * GROUP + branch


def _of_preset(name: str, columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    special = {"value", "nll", "role", "call", "format", "correct", "judge", "safety", "task", "node", "parent"}
    wanted = {*WANTED.get(name, ()), *(("value",) if "critic" in PRESETS[name].needs else ())}
    return {column: values for column, values in columns.items() if column not in special - wanted}
