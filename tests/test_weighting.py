"""Copies: what counts several times weighs as if it were there several times, and what counts no times is not there."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from marft.blocks import Aggregate
from marft.weighting import Totals, count_totals, token_weights

KINDS = ("token_mean", "row_mean", "turn_mean", "row_sum", "sum_over")
# a batch: rows of turns, each turn's number of tokens; and how often each row counts
BATCHES = st.lists(st.tuples(st.lists(st.integers(1, 4), min_size=1, max_size=3), st.integers(0, 3)), max_size=5)


def settings(kind):
    return Aggregate(kind=kind, constant=7.0)


def ids(batch):
    """Row id, turn id and copies of each token."""
    rows, turns, copies, turn = [], [], [], 0
    for row, (sizes, count) in enumerate(batch):
        for size in sizes:
            rows += [row] * size
            turns += [turn] * size
            copies += [count] * size
            turn += 1
    return rows, turns, copies


def slow(kind, batch):
    """Each token's weight, in exact fractions: the rows written down as often as they count, then the mean by hand."""
    written = [(number, sizes) for number, (sizes, count) in enumerate(batch) for _ in range(count)]
    totals = (
        sum(sum(sizes) for _, sizes in written),
        len(written),
        sum(len(sizes) for _, sizes in written),
    )
    weights = [[Fraction(0)] * sum(sizes) for sizes, _ in batch]
    for number, sizes in written:
        place = 0
        for size in sizes:
            each = {
                "token_mean": Fraction(1, totals[0]),
                "row_mean": Fraction(1, totals[1] * sum(sizes)),
                "turn_mean": Fraction(1, totals[2] * size),
                "row_sum": Fraction(1, totals[1]),
                "sum_over": Fraction(1, totals[1] * 7),
            }[kind]
            for token in range(place, place + size):
                weights[number][token] += each
            place += size
    return totals, [float(weight) for row in weights for weight in row]


@pytest.mark.parametrize("kind", KINDS)
@given(batch=BATCHES)
def test_copies_weigh_as_rows_that_are_really_there(kind, batch):
    rows, turns, copies = ids(batch)
    totals, weights = slow(kind, batch)
    assert count_totals(rows, turns, copies) == Totals(*totals)
    found = token_weights(settings(kind), rows, turns, dtype=torch.float64, copies_N=copies)
    assert found.tolist() == pytest.approx(weights, rel=1e-12, abs=0)


@pytest.mark.parametrize("kind", KINDS)
@given(batch=BATCHES)
def test_rows_that_count_no_times_change_nothing_for_the_others(kind, batch):
    rows, turns, copies = ids(batch)
    kept = [number for number, count in enumerate(copies) if count]
    left = [[column[number] for number in kept] for column in (rows, turns, copies)]
    assert count_totals(rows, turns, copies) == count_totals(*left)
    whole = token_weights(settings(kind), rows, turns, dtype=torch.float64, copies_N=copies).tolist()
    assert [whole[number] for number in kept] == pytest.approx(
        token_weights(settings(kind), *left[:2], dtype=torch.float64, copies_N=left[2]).tolist(), rel=1e-12
    )
    assert all(whole[number] == 0 for number in set(range(len(rows))) - set(kept))


@pytest.mark.parametrize("kind", KINDS)
@given(batch=BATCHES, cut=st.integers(0, 5))
def test_totals_of_two_processes_make_one_batch(kind, batch, cut):
    rows, turns, copies = ids(batch)
    whole = token_weights(settings(kind), rows, turns, dtype=torch.float64, copies_N=copies).tolist()
    place = sum(sum(sizes) for sizes, _ in batch[:cut])
    parts = [(rows[:place], turns[:place], copies[:place]), (rows[place:], turns[place:], copies[place:])]
    totals = Totals(*(a + b for a, b in zip(*(count_totals(*part) for part in parts), strict=True)))
    joined = [
        token_weights(settings(kind), part[0], part[1], totals, torch.float64, part[2]).tolist() for part in parts
    ]
    assert joined[0] + joined[1] == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize("kind", ["token_mean", "turn_mean"])
@given(sizes=st.lists(st.tuples(st.integers(1, 4), st.integers(0, 3)), min_size=1, max_size=6))
def test_turns_of_one_row_may_count_differently(kind, sizes):
    """Calls of a sub-agent in one context: in a mean over tokens or turns they stand there several times."""
    turns = [turn for turn, (size, _) in enumerate(sizes) for _ in range(size)]
    copies = [count for size, count in sizes for _ in range(size)]
    written = sum(count * (size if kind == "token_mean" else 1) for size, count in sizes)
    each = [count / (max(written, 1) * (1 if kind == "token_mean" else size)) for size, count in sizes]
    found = token_weights(settings(kind), [0] * len(turns), turns, dtype=torch.float64, copies_N=copies).tolist()
    assert found == pytest.approx([each[turn] for turn in turns], rel=1e-12)


def test_a_row_counts_as_often_as_its_tokens_at_most_do():
    """A mean over rows splits a row's weight among its tokens by their copies: 2 of 3 copies of the row, 1 and 3."""
    copies = [1.0, 3.0, 2.0]
    assert count_totals([0, 0, 1], [0, 1, 2], copies) == Totals(6.0, 5.0, 6.0)
    found = token_weights(Aggregate(kind="row_mean"), [0, 0, 1], [0, 1, 2], dtype=torch.float64, copies_N=copies)
    assert found.tolist() == pytest.approx([3 / 5 / 4, 3 / 5 * 3 / 4, 2 / 5])


@pytest.mark.parametrize("kind", KINDS)
def test_no_tokens_are_no_weights(kind):
    empty = torch.zeros(0, dtype=torch.int64)
    assert count_totals(empty, empty, torch.zeros(0)) == Totals(0, 0, 0)
    assert token_weights(settings(kind), empty, empty, copies_N=torch.zeros(0)).shape == (0,)
