"""Means and deviations over the decisions that share a key.

Values are measured from one member of their group before they are added up, so that equal values have a spread of
exactly zero (0.1 added up three times and divided by three is not 0.1) and a constant added to a group cancels.
A weight per decision says how often it counts; None means once.
"""

from __future__ import annotations

import numpy as np

from marft.credit.keys import Codes

ROUNDING = 1e-12


def total(value_D: np.ndarray, key: Codes) -> np.ndarray:
    """(D,) sum over the group of each row."""
    return np.bincount(key.code, value_D, key.size)[key.code]


def count(key: Codes, weight_D: np.ndarray | None = None) -> np.ndarray:
    """(D,) size of the group of each row."""
    return np.bincount(key.code, weight_D, minlength=key.size)[key.code]


def shift(value_D: np.ndarray, key: Codes) -> np.ndarray:
    """(D,) the value minus that of one member of its group, the same member for the whole group."""
    member = np.empty(key.size)
    member[key.code] = value_D
    return value_D - member[key.code]


def centre(value_D: np.ndarray, key: Codes, weight_D: np.ndarray | None = None) -> np.ndarray:
    """(D,) the value minus the mean of its group; the value of a group of no weight is kept from its member."""
    shifted_D = shift(value_D, key)
    if weight_D is None:
        return shifted_D - total(shifted_D, key) / count(key)
    size_D = count(key, weight_D)
    return shifted_D - total(weight_D * shifted_D, key) / np.where(size_D > 0, size_D, 1.0)


def deviation(value_D: np.ndarray, key: Codes, unbiased: bool, weight_D: np.ndarray | None = None) -> np.ndarray:
    """(D,) standard deviation of the group of each row; 0 for a group of one, and where it is only rounding error."""
    count_D = count(key, weight_D)
    centred_D = _rms(centre(value_D, key, weight_D), key, weight_D)
    freedom_D = count_D - int(unbiased)
    inflation_D = np.sqrt(count_D / np.where(freedom_D > 0, freedom_D, np.maximum(count_D, 1)))
    deviation_D = centred_D * inflation_D
    # Returns of 0.3 and 0.1 + 0.2 are equal; dividing by their difference would make advantages of 1e5.
    return np.where(deviation_D <= ROUNDING * _rms(value_D, key, weight_D), 0.0, deviation_D)


def _rms(value_D: np.ndarray, key: Codes, weight_D: np.ndarray | None) -> np.ndarray:
    # Squares of 1e-200 and 1e200 would leave the range of float64; one scale for all would lose a tiny group beside a
    # huge one.
    largest = np.zeros(key.size)
    np.maximum.at(largest, key.code, np.abs(value_D))
    scale_D = np.where(largest > 0, largest, 1.0)[key.code]
    square_D = (value_D / scale_D) ** 2
    size_D = count(key, weight_D)
    mean_D = total(square_D if weight_D is None else weight_D * square_D, key) / np.where(size_D > 0, size_D, 1.0)
    return scale_D * np.sqrt(mean_D)


def distinct(value_D: np.ndarray, key: Codes) -> np.ndarray:
    """(D,) weights with which every distinct value of a group counts once; equal up to rounding is equal."""
    order = np.lexsort((value_D, key.code))
    value, group = value_D[order], key.code[order]
    near = crumbs(value_D, key)[order][1:]
    new = np.concatenate([[True], (group[1:] != group[:-1]) | (value[1:] - value[:-1] > near)])[: len(value)]
    run = np.cumsum(new) - 1
    weight_D = np.empty(len(value))
    weight_D[order] = 1.0 / np.bincount(run)[run] if len(run) else 0.0
    return weight_D


def crumbs(value_D: np.ndarray, key: Codes) -> np.ndarray:
    """(D,) differences up to this are rounding, beside the largest value of the group."""
    largest = np.zeros(key.size)
    np.maximum.at(largest, key.code, np.abs(value_D))
    return ROUNDING * largest[key.code]


def standardise(value_D: np.ndarray, deviation_D: np.ndarray, eps: float, place: str = "add") -> np.ndarray:
    """(D,) value over the deviation with its eps, and 0 where there is no spread."""
    spread = deviation_D != 0  # true for NaN, so that an overflow shows instead of turning into zeros
    if place == "inside":
        divisor_D = np.hypot(deviation_D, np.sqrt(eps))
    else:
        divisor_D = deviation_D + eps if place == "add" else np.maximum(deviation_D, eps)
    return np.where(spread, value_D / np.where(spread, divisor_D, 1.0), 0.0)
