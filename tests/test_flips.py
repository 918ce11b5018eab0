"""The two parts of what a debate gained."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from marft.eval.flips import gain

KEYS = ("right_right", "right_wrong", "wrong_right", "wrong_wrong")
shares = st.floats(0, 1)


def flips(first, kept, corrected):
    return dict(
        zip(
            KEYS,
            (first * kept, first * (1 - kept), (1 - first) * corrected, (1 - first) * (1 - corrected)),
            strict=True,
        )
    )


def final(first, kept, corrected):
    return first * kept + (1 - first) * corrected


@given(st.tuples(shares, shares, shares), st.tuples(shares, shares, shares))
def test_the_parts_add_up_to_the_whole(before, after):
    assume(all(0.01 < rates[0] < 0.99 for rates in (before, after)))
    assert gain(flips(*before), flips(*after)).whole == pytest.approx(final(*after) - final(*before), abs=1e-9)


@given(shares, shares, shares, shares)
def test_who_listens_as_before_gains_by_first_answers_alone_and_the_other_way(first, later, kept, corrected):
    assume(all(0.01 < share < 0.99 for share in (first, later)))
    found = gain(flips(first, kept, corrected), flips(later, kept, corrected))
    assert found.listening == pytest.approx(0, abs=1e-9)
    found = gain(flips(first, kept, corrected), flips(first, corrected, kept))
    assert found.first == pytest.approx(0, abs=1e-9)


def test_by_hand():
    """.6 right at first to .8, of those .8 kept then .9; of the wrong .3 corrected then .5: .60 to .82."""
    found = gain(flips(0.6, 0.8, 0.3), flips(0.8, 0.9, 0.5))
    assert found.first == pytest.approx(0.2 * (0.85 - 0.4))
    assert found.listening == pytest.approx(0.7 * 0.1 + 0.3 * 0.2)
    assert found.whole == pytest.approx(0.82 - 0.60)


def test_a_team_that_never_errs_at_first_is_split_too():
    found = gain(flips(0.6, 0.8, 0.3), flips(1.0, 0.9, 0.0))
    assert found.whole == pytest.approx(0.9 - 0.6)
