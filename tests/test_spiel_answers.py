"""Answers of the OpenSpiel games: which text is which action, and that no text at all does harm."""

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_spiel_games import OWN_WORDS

from marft.compliance import NASTY
from marft.games import make_game
from marft.games.openspiel import answer, read_answer

PIECES = st.sampled_from(
    ["<answer>", "</answer>", "<answer", "answer>", "</", ">", "1", "5", "bet", " ", "\n", "²", "<A>"]
)
any_text = st.one_of(st.text(max_size=60), st.lists(PIECES, max_size=12).map("".join), st.sampled_from(NASTY[:19]))


@given(text=any_text)
def test_the_last_complete_answer_counts(text):
    found = re.findall(r"<answer>((?:(?!<answer>|</answer>).)*)</answer>", text, re.DOTALL)
    assert read_answer(text) == (found[-1] if found else None)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("<answer>5</answer>", "5"),
        ("first <answer>1</answer>, no: <answer>2</answer> it is", "2"),
        ("<answer>1</answer><answer>", "1"),
        ("<answer>1<answer>2</answer></answer>", "2"),
        ("<think><answer>1</answer></think>", "1"),
        ("<answer></answer>", ""),
        ("</answer>5<answer>", None),
        ("<ANSWER>5</ANSWER>", None),
        ("5", None),
    ],
)
def test_answers_known_by_heart(text, read):
    assert read_answer(text) == read


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("<answer> BET\n</answer>", "bet"),
        ("<answer>Bet</answer>", "bet"),
        ("<answer>bet.</answer>", None),
        ("<answer>b et</answer>", None),
        ("<answer>I bet</answer>", None),
        ("<answer></answer>", None),
        ("bet", None),
    ],
)
def test_an_action_is_read_whatever_its_case_and_outer_spaces(text, action):
    game = make_game("kuhn_poker")
    game.reset(0)
    result = game.act({"alice": text})
    assert result.invalid == (() if action else ("alice",))
    if action:
        assert result.actions == {"alice": action}


@pytest.mark.parametrize("gap", [1, 397, 4000])
def test_what_stands_far_behind_an_answer_is_part_of_it(gap):
    """The general game once read the first 400 characters and left the rest unread."""
    game = make_game("openspiel", {"game": "kuhn_poker"})
    game.reset(0)
    assert game.act({"alice": answer(f"Bet{' ' * gap}or rather Pass")}).invalid == ("alice",)
    game.reset(0)
    assert game.act({"alice": answer(f"{' ' * 397}Bet")}).actions == {"alice": "Bet"}


@pytest.mark.parametrize("cell", ["0", "10", "²", "١", "５", "-1", "1.0", "one"])
def test_no_other_number_names_a_cell(cell):
    game = make_game("tic_tac_toe")
    game.reset(0)
    assert game.act({"alice": answer(cell)}).invalid == ("alice",)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), name=st.sampled_from([*OWN_WORDS, "openspiel"]), seed=st.integers(0, 2**63))
def test_any_text_is_survived_and_an_illegal_one_counted(data, name, seed):
    game = make_game(name, {"invalid": data.draw(st.sampled_from(["random", "forfeit"]))})
    game.reset(seed)
    for _ in range(4):
        if seats := game.acting():
            legal = {seat: [read_answer(say) for say in game.view(seat).say] for seat in seats}
            texts = {seat: data.draw(any_text) for seat in seats}
            result = game.act(texts)
            for seat in seats:
                given_name = " ".join((read_answer(texts[seat]) or "").split()).lower()
                assert (seat in result.invalid) == (given_name not in legal[seat])
                assert result.actions[seat] in [*legal[seat], "forfeit"]


@pytest.mark.parametrize(
    "text",
    [
        "<answer>" * 125_000,
        "<answer>" + "x" * 1_000_000 + "</answer>",
        "<answer></answer>" * 60_000,
        "</answer>" * 110_000,
        "<answer" * 140_000,
        "<answer>" + " " * 1_000_000 + "5</answer>",
    ],
)
@pytest.mark.parametrize("name", ["tic_tac_toe", "openspiel"])
def test_a_megabyte_is_read_at_once(name, text):
    game = make_game(name)
    game.reset(0)
    start = time.perf_counter()
    game.act({"alice": text})
    assert time.perf_counter() - start < 0.2
