"""Seeds that depend on names, not on order: the same run seed and place give the same number in any process."""

from __future__ import annotations

import hashlib

import numpy as np


def derive(seed: int, *place: object) -> int:
    """A 63-bit seed for `place` (update, group, seat, ...) under the run's seed."""
    text = "/".join(map(str, (seed, *place)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def uniforms(seeds_B: np.ndarray, position: int | np.ndarray) -> np.ndarray:
    """One float64 in [0, 1) per request for the token at `position`: a counter-based generator (splitmix64).

    The number depends on the request's own seed and the position alone, so sampling is the same whatever requests
    share a batch. Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
    """
    with np.errstate(over="ignore"):
        step = np.asarray(position).astype(np.uint64) + np.uint64(1)
        z = seeds_B.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15) * step
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return (z >> np.uint64(11)).astype(np.float64) * 2.0**-53
