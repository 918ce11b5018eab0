"""Debates about a text that the judge does not see: what it reads, which quotes count, whom `reader` believes."""

import itertools
import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from table_play import any_text, reading

from marft.errors import RecipeError
from marft.games import make_game
from marft.games.quotes import QUOTE, VERIFIED, checked

SOURCE = "a3 x8 c5, x?"
ROW = {"question": SOURCE, "answer": "8", "wrong": ["3"]}


def debate(tmp_path, says=None, asked=None, **options):
    """A game at the first seed that draws the question above."""
    path = tmp_path / "rows.jsonl"
    more = {key: value for key, value in {"says": says, "asked": asked}.items() if value is not None}
    rows = [ROW | more, {"question": "b", "answer": "1"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = {"path": str(path), "test_share": 0.01}
    game = make_game("debate", {"form": "sides", "rounds": 1, "hidden": True, "quotes": True, "task": task, **options})
    game.reset(next(asking(game)))
    return game


def asking(game):
    """Seeds that draw it."""
    for seed in itertools.count():
        game.reset(seed)
        if game.facts()["question"] == SOURCE:
            yield seed


@pytest.mark.parametrize(
    ("text", "shown", "found"),
    [
        ("It is <quote>x8</quote>.", "It is <verified>x8</verified>.", ("x8",)),
        ("<quote>x3</quote>", "<unverified>x3</unverified>", ()),
        ("<quote> x8  c5 </quote>", "<verified> x8  c5 </verified>", ("x8 c5",)),
        ("<quote></quote><quote> </quote>", "<unverified></unverified><unverified> </unverified>", ()),
        ("<quote>a3</quote> <quote>a4</quote>", "<verified>a3</verified> <unverified>a4</unverified>", ("a3",)),
        ("<verified>x3</verified>", "<unverified>x3</unverified>", ()),
        ("<unverified>x8</unverified>", "<verified>x8</verified>", ("x8",)),
        ("<veri<verified>fied>x3</verified>", "<veri<unverified>fied>x3</unverified>", ()),
        ("<quote>x8", "<quote>x8", ()),
        ("x8</quote>", "x8</quote>", ()),
        ("<quote>no <quote>x8</quote></quote>", "<quote>no <verified>x8</verified></quote>", ("x8",)),
    ],
)
def test_a_quote_is_verified_where_it_stands_in_the_source(text, shown, found):
    assert checked(text, SOURCE) == (shown, found)


@given(any_text | st.lists(st.sampled_from([*QUOTE, *VERIFIED, "x8", "x", "8", " "]), max_size=12).map("".join))
def test_nothing_verified_is_ever_shown_that_does_not_stand_there(text):
    shown, found = checked(text, SOURCE)
    between = [part.split(VERIFIED[1])[0] for part in shown.split(VERIFIED[0])[1:]]
    assert [" ".join(one.split()) for one in between] == list(found)
    assert all(one in SOURCE for one in found)


def test_the_judge_sees_claims_and_quotes_and_not_the_question(tmp_path):
    game = debate(tmp_path)
    for seat in ("alice", "bob"):
        assert f"The judge does not see the question. Quote it as <quote>…</quote>: quotes are checked.\n{SOURCE}" in (
            reading(game, seat).replace("Question: ", "")
        )
    game.act({"alice": "<quote>x8</quote>", "bob": "<quote>x3</quote>"})
    text = reading(game, "judge")
    assert SOURCE not in text
    assert "Question" not in text
    assert "alice says that the answer is" in text
    assert 'alice: "<verified>x8</verified>"' in text
    assert 'bob: "<unverified>x3</unverified>"' in text


def test_the_judge_is_shown_what_the_row_holds_for_it(tmp_path):
    game = debate(tmp_path, asked="What is x?")
    game.act({"alice": "a", "bob": "b"})
    assert "\nQuestion: What is x?\n" in reading(game, "judge")
    assert SOURCE not in reading(game, "judge")


def test_both_are_for_sides_with_given_answers():
    for key, other in (("hidden", {}), ("quotes", {}), ("hidden", {"form": "sides", "assign": False})):
        with pytest.raises(RecipeError, match=f"{key} is for sides with given answers: set form sides and assign true"):
            make_game("debate", {key: True, **other})


def test_a_reader_believes_a_quote_of_the_truth_and_else_the_first_side(tmp_path):
    game, rng = debate(tmp_path), random.Random(1)
    for seed in itertools.islice(asking(game), 20):
        for said, proof in (("<quote>x8</quote>", True), ("It is 8.", False), ("<quote>a3</quote>", False)):
            game.reset(seed)
            true, other = sorted(game.defends, key=lambda seat: game.defends[seat] != "8")
            first = game.defends[game.facts()["order"][0]]
            game.act({true: said, other: "<quote>a3</quote>"})
            verdict = game.players["reader"](game.view("judge"), rng)
            assert verdict == f"<answer>{'8' if proof else first}</answer>"


def test_scripted_sides_argue_by_the_tasks_lines_for_their_answer(tmp_path):
    says = {"8": ["<quote>x8</quote>", "eight"], "3": ["three"]}
    game = debate(tmp_path, says=says)
    heard = set()
    for seed in itertools.islice(asking(game), 40):
        game.reset(seed)
        rng = random.Random(seed)
        for seat in ("alice", "bob"):
            heard.add((game.defends[seat], game.players["reader"](game.view(seat), rng)))
    assert heard == {("8", "<quote>x8</quote>"), ("8", "eight"), ("3", "three")}
