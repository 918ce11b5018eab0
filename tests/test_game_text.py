"""Reading of answers: what counts, what does not, and that nothing of any size takes long."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marft.compliance import NASTY
from marft.games.text import amount, before, between, decimal, items_reader, items_text, quotable, whole

READ = items_reader(("hat", "book", "ball"))
MOST = (10, 10, 10)


@pytest.mark.parametrize(
    ("text", "inner"),
    [
        ("<answer>7</answer>", "7"),
        ("I think <answer> 7\n</answer> is best", "7"),
        ("<answer>1</answer> no, <answer>2</answer>", "2"),
        ("<answer>1</answer> <answer>2", "1"),
        ("<answer>7", None),
        ("7</answer>", None),
        ("</answer>7<answer>", None),
        ("<Answer>7</Answer>", None),
        ("", None),
        ("<answer>" + "x" * 401 + "</answer>", None),
    ],
)
def test_the_last_closed_pair_of_marks_counts(text, inner):
    assert between(text) == inner


def test_nested_marks_are_no_number():
    assert whole(between("<answer><answer>5</answer></answer>"), 0, 10) is None
    assert whole(between("<answer>4<answer>5</answer>"), 0, 10) == 5


def test_what_is_before_the_answer_is_talk():
    assert before("Let us share. <answer>5</answer>") == "Let us share. "
    assert before("no marks") == "no marks"


@pytest.mark.parametrize(
    ("text", "number"),
    [("7", 7), ("+7", 7), ("007", 7), ("-0", 0), ("10", 10), ("11", None), ("-1", None), ("7.0", None), ("", None)]
    + [(bad, None) for bad in ("1e309", "nan", "inf", "١٢", "²", "1_0", "0x1", "7 7", "7\n", "٧", "9" * 5000, "1,5")],
)
def test_whole_numbers(text, number):
    found = whole(text, 0, 10)
    assert found == number
    assert found is None or type(found) is int


@pytest.mark.parametrize(
    ("text", "number"),
    [("2.5", 2.5), ("-0", 0), ("-0.0", 0), ("10.0", 10), ("10.1", None), ("1e1", None), (".5", None), ("5.", None)]
    + [(bad, None) for bad in ("1e309", "nan", "inf", "١٢", "2,5", "9" * 5000, "0." + "0" * 5000)],
)
def test_decimals(text, number):
    found = decimal(text, 0, 10)
    assert found == number
    assert str(found) != "-0.0"


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("Proposal: 4 hats, 0 books, 10 balls", (4, 0, 10)),
        ("I want hats.\nProposal: 1 hat, 1 book, 1 ball.", (1, 1, 1)),
        ("Proposal: 4 hats 0 books 10 balls", (4, 0, 10)),
        ("Proposal: 9 hats, 9 books, 9 balls. Proposal: 1 hats, 2 books, 3 balls", (1, 2, 3)),
        ("Proposal: 11 hats, 0 books, 0 balls", None),
        ("Proposal: 1 books, 2 hats, 3 balls", None),
        ("Proposal: -1 hats, 2 books, 3 balls", None),
        ("Proposal: 1.5 hats, 2 books, 3 balls", None),
        ("Proposal: 1 hats, 2 books", None),
        ("1 hats, 2 books, 3 balls", None),
        ("Proposal: ١ hats, 2 books, 3 balls", None),
        ("Proposal: 1 hats, 2 books, 3 ballsx", None),
    ],
)
def test_proposals_of_items(text, numbers):
    assert READ(text, MOST) == numbers


@given(numbers=st.tuples(*[st.integers(0, 10)] * 3))
def test_a_proposal_is_read_as_it_is_written(numbers):
    assert READ("Proposal: " + items_text(("hat", "book", "ball"), numbers), MOST) == numbers


@pytest.mark.parametrize("text", [*NASTY, "Proposal: " + "1" * 1_000_000, "Proposal: " * 100_000, "<answer>" * 125_000])
def test_every_reading_is_quick(text):
    start = time.perf_counter()
    inner = between(text)
    whole(inner, 0, 10)
    decimal(inner, 0, 10)
    READ(text, MOST)
    quotable(text, 500)
    before(text)
    assert time.perf_counter() - start < 0.05


@given(text=st.text(max_size=300), limit=st.integers(1, 200))
def test_what_is_quoted_is_short_and_stays_in_its_quotes(text, limit):
    shown = quotable(text, limit)
    assert len(shown) <= limit
    assert '"' not in shown
    assert len(shown.splitlines()) <= 1
    shown.encode()


@pytest.mark.parametrize(
    ("number", "text"),
    [(10.0, "10"), (2.5, "2.5"), (1 / 3, "0.33"), (-0.001, "0"), (100, "100"), (5.10, "5.1"), (-1.5, "-1.5")],
)
def test_amounts_have_at_most_two_decimals(number, text):
    assert amount(number) == text
