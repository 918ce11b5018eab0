"""Words that are nearly alike, and what can be said of each: for the spy game and its scripted players."""

from __future__ import annotations

CLUES: dict[str, tuple[str, ...]] = {
    "apple": ("fruit", "sweet", "grows on trees", "red or green", "made into cider"),
    "pear": ("fruit", "sweet", "grows on trees", "soft when ripe", "narrow at the top"),
    "cat": ("pet", "four legs", "has fur", "purrs", "climbs"),
    "dog": ("pet", "four legs", "has fur", "barks", "goes for walks"),
    "train": ("carries people", "has wheels", "fast", "runs on rails", "stops at stations"),
    "bus": ("carries people", "has wheels", "fast", "runs on roads", "has one driver"),
    "lake": ("water", "blue", "has fish", "is still", "has a shore all around"),
    "river": ("water", "blue", "has fish", "flows", "has a source"),
    "coffee": ("drink", "hot", "in a cup", "made of beans", "black"),
    "tea": ("drink", "hot", "in a cup", "made of leaves", "steeps"),
    "violin": ("music", "has strings", "made of wood", "has a bow", "held under the chin"),
    "guitar": ("music", "has strings", "made of wood", "has frets", "is plucked"),
}
"""Word -> clues; those of a pair begin with what fits both."""

PAIRS: tuple[tuple[str, str], ...] = (
    ("apple", "pear"),
    ("cat", "dog"),
    ("train", "bus"),
    ("lake", "river"),
    ("coffee", "tea"),
    ("violin", "guitar"),
)
