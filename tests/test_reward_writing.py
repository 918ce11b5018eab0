"""MAGRPO's rewards for two writers: each level by hand, from the numbers of the authors' code."""

import pytest
from dialogues import dialogue, paid
from hypothesis import given
from hypothesis import strategies as st

from marft.rewards import load_reward
from marft.rewards.writing import COMMON, CONNECTIVES, levels


def text(words, first=0, characters=None):
    """Different words of two letters from number `first` on; the last one drawn out until the text is so long."""
    letters = "bcdfghjklm"
    made = [letters[n // 10] + letters[n % 10] for n in range(first, first + words)]
    plain = " ".join(made)
    return plain if characters is None else plain + "z" * (characters - len(plain))


def test_two_good_texts_earn_all_but_the_connectives():
    """8 and 16 words, 23 and 47 characters, one word of 23 shared: 0.5 + 1 + 0.5 + 0.6."""
    found = levels(text(8), text(16, first=7))
    assert found == pytest.approx((0.5, 1.0, 0.5, 0.6))


@pytest.mark.parametrize(("short", "long"), [(7, 16), (8, 257), (0, 16), (8, 7)])
def test_texts_that_are_too_short_or_too_long_earn_nothing(short, long):
    assert levels(" ".join(["ab"] * short), " ".join(["cd"] * long)) == (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("characters", "ratio"),
    [(109, 0), (110, 0), (135, 0.5), (160, 1), (320, 1), (410, 0.5), (500, 0), (501, 0)],
)
def test_the_second_text_is_to_be_twice_or_three_times_as_long(characters, ratio):
    found = levels(text(8, characters=100), text(16, first=20, characters=characters))
    assert found.structure == 0.5
    assert found.ratio == pytest.approx(ratio)
    assert (found.vocabulary > 0) == (110 <= characters <= 500)  # outside, nothing further counts


@pytest.mark.parametrize(("words", "worth"), [(12, 0), (13, 0), (15, 1 / 7), (20, 0.5), (30, 0.5)])
def test_the_second_text_is_to_have_twice_as_many_different_words(words, worth):
    found = levels(text(10, characters=100), text(words, first=20, characters=200))
    assert found.vocabulary == pytest.approx(worth)


def test_a_poor_vocabulary_ends_it_and_the_threshold_does_not():
    shared = [levels(text(10, characters=100), text(words, characters=200)) for words in (12, 13)]
    assert [one.style for one in shared] == pytest.approx([0.0, 0.6])


def test_overlap_counts_up_to_three_hundredths():
    """20 and 40 words, one shared: 1/59 of 0.03."""
    found = levels(text(20), text(40, first=19))
    assert found.style == pytest.approx(0.6 * (1 / 59) / 0.03)


def test_words_that_every_text_has_are_no_overlap():
    """Nothing else is shared; of words that are all common the sets are empty, and alike."""
    assert levels("the " + text(8), "the " + text(20, first=20)).style == 0
    common = sorted(COMMON - {word for some in CONNECTIVES.values() for word in some})
    assert levels(" ".join(common[:8]), " ".join(common[8:30])).style == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("said", "kinds"),
    [("", 0), ("however", 1), ("however but yet", 1), ("moreover however", 2), ("some soap", 0), ("For Example", 1)],
)
def test_kinds_of_connectives_count_and_not_their_number(said, kinds):
    style = levels(text(8), f"{text(20, first=20)} {said}").style
    assert style == pytest.approx(0.4 * (0.4 + 0.05 * (kinds - 1) if kinds else 0))


def test_all_twelve_kinds_are_worth_less_than_all():
    said = " ".join(some[0] for some in CONNECTIVES.values())
    assert len(CONNECTIVES) == 12
    assert levels(text(20, characters=100), f"{text(30, first=30)} {said}").style == pytest.approx(0.4 * 0.95)


def test_both_seats_are_paid_the_sum_or_a_level():
    episode = dialogue(("writer1", text(8)), ("writer2", text(16, first=7)))
    assert paid(load_reward("writing"), episode) == pytest.approx({"writer1": 2.6, "writer2": 2.6})
    for level, worth in {"structure": 0.5, "ratio": 1.0, "vocabulary": 0.5, "style": 0.6}.items():
        assert paid(load_reward("writing", {"level": level}), episode)["writer2"] == pytest.approx(worth)
    swapped = paid(load_reward("writing", {"seats": ["writer2", "writer1"]}), episode)
    assert swapped == {"writer1": 0.5, "writer2": 0.5}


def test_two_writers_must_be_named_where_there_are_more():
    episode = dialogue(("a", "x"), ("b", "y"), ("c", "z"))
    with pytest.raises(ValueError, match=r"options\.seats must be two of a, b, c, got \['a', 'b', 'c'\]"):
        paid(load_reward("writing"), episode)


@given(st.lists(st.text(max_size=60), min_size=2, max_size=2), st.integers(0, 5))
def test_any_texts_earn_from_0_to_3_and_no_level_without_the_one_before(texts, least):
    found = levels(*texts, least=least)
    assert 0 <= sum(found) <= 3
    assert found.structure or not any(found)
    assert found.structure or not found.ratio
    assert found.ratio or found.vocabulary == 0 or found.structure
