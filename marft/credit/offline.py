"""T for offline losses: labels and preference pairs out of values (MALT, 2412.01928; AdvGame, 2512.20806)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from marft.credit.keys import combine, factorise
from marft.errors import RecipeError


class Pairs(NamedTuple):
    """Row indices of a better and a worse answer to the same prompt, (P,) each."""

    chosen_P: np.ndarray
    rejected_P: np.ndarray


def labels(value_U: Any, threshold: float = 0.5) -> np.ndarray:
    """(U,) true where the value exceeds the threshold."""
    return np.asarray(value_U, np.float64) > threshold


def sibling_pairs(label_U: Any, keys: Sequence[Any]) -> Pairs:
    """All pairs of a true and a false row with the same values in the `keys` columns (parent, seat, …).

    Siblings that are all true or all false give no pair. Raises RecipeError where no key has two rows.
    """
    good_U = np.asarray(label_U, bool)
    code_U = _codes(keys, len(good_U))
    good, bad = np.flatnonzero(good_U), np.flatnonzero(~good_U)
    good, bad = good[np.argsort(code_U[good], kind="stable")], bad[np.argsort(code_U[bad], kind="stable")]
    size = int(code_U.max(initial=-1)) + 1
    bad_K = np.bincount(code_U[bad], minlength=size)
    start_K = np.cumsum(bad_K) - bad_K
    times = bad_K[code_U[good]]
    chosen_P = np.repeat(good, times)
    offset = np.arange(len(chosen_P)) - np.repeat(np.cumsum(times) - times, times)
    return Pairs(chosen_P, bad[start_K[code_U[chosen_P]] + offset])


def best_worst_pairs(value_U: Any, keys: Sequence[Any]) -> Pairs:
    """One pair a key: its first largest and first smallest value; keys where all are equal give none."""
    value_U = np.asarray(value_U, np.float64)
    code_U = _codes(keys, len(value_U))
    order = np.lexsort((np.arange(len(value_U)), value_U, code_U))
    backward = np.lexsort((-np.arange(len(value_U)), value_U, code_U))
    group = code_U[order]
    first = np.flatnonzero(np.diff(group, prepend=-1) != 0)
    last = np.append(first[1:], len(group)) - 1 if len(first) else first
    worst, best = order[first], backward[last]
    differ = value_U[best] > value_U[worst]
    return Pairs(best[differ], worst[differ])


def _codes(keys: Sequence[Any], n: int) -> np.ndarray:
    code_U = combine([factorise(np.asarray(column)) for column in keys], n).code
    if n and np.bincount(code_U).max() < 2:
        raise RecipeError("pairs: no key has two rows; preference pairs need two or more answers to one prompt")
    return code_U
