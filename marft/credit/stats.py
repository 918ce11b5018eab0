"""Means and deviations over the decisions that share a key.

Values are measured from one member of their group before they are added up, so that equal values have a spread of
exactly zero (0.1 added up three times and divided by three is not 0.1) and a constant added to a group cancels.
"""

from __future__ import annotations

import numpy as np

from marft.credit.keys import Codes

ROUNDING = 1e-12


def total(value_D: np.ndarray, key: Codes) -> np.ndarray:
    """(D,) sum over the group of each row."""
    return np.bincount(key.code, value_D, key.size)[key.code]


def count(key: Codes) -> np.ndarray:
    """(D,) size of the group of each row."""
    return np.bincount(key.code, minlength=key.size)[key.code]


def shift(value_D: np.ndarray, key: Codes) -> np.ndarray:
    """(D,) the value minus that of one member of its group, the same member for the whole group."""
    member = np.empty(key.size)
    member[key.code] = value_D
    return value_D - member[key.code]


def centre(value_D: np.ndarray, key: Codes) -> np.ndarray:
    """(D,) the value minus the mean of its group."""
    shifted_D = shift(value_D, key)
    return shifted_D - total(shifted_D, key) / count(key)


def deviation(value_D: np.ndarray, key: Codes, unbiased: bool) -> np.ndarray:
    """(D,) standard deviation of the group of each row; 0 for a group of one, and where it is only rounding error."""
    count_D = count(key)
    deviation_D = _rms(centre(value_D, key), key) * np.sqrt(count_D / np.maximum(count_D - int(unbiased), 1))
    # Returns of 0.3 and 0.1 + 0.2 are equal; dividing by their difference would make advantages of 1e5.
    return np.where(deviation_D <= ROUNDING * _rms(value_D, key), 0.0, deviation_D)


def _rms(value_D: np.ndarray, key: Codes) -> np.ndarray:
    scale = np.abs(value_D).max(initial=0.0)  # squares of 1e-200 and 1e200 would leave the range of float64
    return scale * np.sqrt(total((value_D / scale) ** 2, key) / count(key)) if scale else np.zeros(len(value_D))


def standardise(value_D: np.ndarray, deviation_D: np.ndarray, eps: float) -> np.ndarray:
    """(D,) value / (deviation + eps), and 0 where there is no spread."""
    spread = deviation_D != 0  # true for NaN, so that an overflow shows instead of turning into zeros
    return np.where(spread, value_D / np.where(spread, deviation_D + eps, 1.0), 0.0)
