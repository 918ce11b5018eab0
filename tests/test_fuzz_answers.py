"""Arbitrary texts to every game, read as the rules say; `python tests/fuzz_answers.py` does it with a million."""

import pytest

pytest.importorskip("pyspiel")
pytest.importorskip("pettingzoo")

import fuzz_answers
from answer_rules import RULES, UNREAD, agrees, fraction, integer, marked, proposal, quoted
from fuzz_answers import fuzz
from hypothesis import given
from hypothesis import strategies as st
from table_play import any_text

from marft.games import GAMES
from marft.games.table import TableGame
from marft.games.text import before, between, decimal, items_reader, quotable, whole

TEXTS = 800
"""To each game."""


@pytest.mark.parametrize(("name", "options"), fuzz_answers.GAMES)
def test_every_text_is_read_as_the_rules_say_and_quickly(name, options):
    found = fuzz(name, options, TEXTS)
    assert found.huge
    assert 0.05 < found.readable / found.texts < 0.9


def test_every_game_that_reads_answers_is_fuzzed():
    assert set(RULES) == {name for name, _ in fuzz_answers.GAMES} == set(GAMES) - {"textarena"}


def test_a_text_that_is_read_wrongly_is_caught(monkeypatch):
    """The last number wins where the rules say that two are none; a text of another's tags is taken; a flag is lost."""
    from marft.games import table, text

    def generous(said, marks=text.ANSWER, limit=400):
        return between(said, marks, limit) or (said.split()[-1] if said.split() else None)

    def forgetful(self, texts, choices, read=None):
        return kept(self, texts, choices, read)[0], ()

    kept = TableGame.moves
    with monkeypatch.context() as patch:
        patch.setattr(table, "between", generous)
        with pytest.raises(AssertionError, match="was read as"):
            fuzz("ultimatum", {}, TEXTS)
    with monkeypatch.context() as patch:
        patch.setattr(TableGame, "moves", forgetful)
        with pytest.raises(AssertionError, match="wanted nothing"):
            fuzz("guess_two_thirds", {}, TEXTS)
    with monkeypatch.context() as patch:
        patch.setattr(fuzz_answers, "LIMIT", 1e-6)
        with pytest.raises(AssertionError, match=r"s for"):
            fuzz("stag_hunt", {}, TEXTS)


READERS = {items: items_reader(items) for items in (("hat", "book", "ball"), ("book", "hat", "ball"))}


@given(text=any_text, limit=st.integers(1, 60))
def test_the_common_readings_equal_the_slow_ones(text, limit):
    first, inner = marked(text)
    assert (before(text), between(text)) == (first, inner)
    for most in (3, 10**12):
        for number in (inner, text):
            for fast, slow in ((whole, integer), (decimal, fraction)):
                wanted = slow(number, -1, most)
                assert fast(number, -1, most) == (None if wanted is UNREAD else wanted)
    for items, read in READERS.items():
        wanted = proposal(text, items, (5, 5, 5))
        assert read(text, (5, 5, 5)) == (None if wanted is UNREAD else tuple(wanted))
    assert quotable(text, limit) == quoted(text, limit)
    assert agrees({"a": 1, "b": 2}, {"a": 1})
    assert not agrees({"a": 1}, {"a": 2})
