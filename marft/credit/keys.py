"""Columns as integer codes, so that grouping is indexing: no loop and, for ordinary ids, no sort.

Codes keep the order of the values they stand for; combined codes are in lexicographic order.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np


class Codes(NamedTuple):
    """Integers 0..size-1 that stand for the values of a column, in the values' order. Some may be unused."""

    code: np.ndarray
    size: int


def factorise(value_N: np.ndarray) -> Codes:
    """Codes of a column of integers, strings or anything that sorts."""
    if not len(value_N):
        return Codes(np.zeros(0, np.int64), 1)
    if value_N.dtype == object:  # None among strings: a turn that no learner spoke
        value_N = value_N.astype(str)
    if value_N.dtype.kind in "iub":
        value_N = value_N.astype(np.int64)
        low, high = int(value_N.min()), int(value_N.max())
        if high - low < _dense_limit(len(value_N)):
            return Codes(value_N - low, high - low + 1)
        unique, code = np.unique(value_N, return_inverse=True)
        return Codes(code, len(unique))
    # Rows of an episode mostly stand together, and comparing neighbours is far cheaper than sorting strings.
    start = np.flatnonzero(np.concatenate([[True], value_N[1:] != value_N[:-1]]))
    unique = np.unique(value_N[start])
    code_of_run = np.searchsorted(unique, value_N[start])
    return Codes(np.repeat(code_of_run, np.diff(start, append=len(value_N))), len(unique))


def combine(columns: Iterable[Codes], n: int) -> Codes:
    """Codes of tuples of values, in lexicographic order; `n` is the number of rows."""
    code, size = np.zeros(n, np.int64), 1
    for column in columns:
        if size == 1:
            code, size = column
        elif column.size > 1:
            code, size = code * column.size + column.code, size * column.size
        if size > _dense_limit(n):
            code, size = compact(Codes(code, size))
    return Codes(code, size)


def compact(column: Codes) -> Codes:
    """The same codes without unused ones."""
    if column.size > _dense_limit(len(column.code)):
        unique, code = np.unique(column.code, return_inverse=True)
        return Codes(code, len(unique))
    used = np.zeros(column.size, bool)
    used[column.code] = True
    rank = np.cumsum(used) - 1
    size = int(used.sum())
    return Codes(column.code if size == column.size else rank[column.code], size)


def first_rows(column: Codes) -> np.ndarray:
    """Index of the first row of each code; for codes without unused ones."""
    row = np.empty(column.size, np.int64)
    row[column.code[::-1]] = np.arange(len(column.code))[::-1]
    return row


def _dense_limit(n: int) -> int:
    """Up to this many codes, an array with one place per code is cheaper than sorting n rows."""
    return 4 * n + 1024
