"""TextArena's environments as games: the contract holds around their shared randomness."""

import random
import sys

import pytest

from marft.compliance import check_game
from marft.errors import RecipeError
from marft.games import make_game


def test_without_textarena_the_way_to_get_it_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "textarena", None)
    with pytest.raises(RecipeError, match=r"needs TextArena.*pip install marft\[textarena\]"):
        make_game("textarena", {"env": "TicTacToe-v0"})


@pytest.fixture
def textarena():
    return pytest.importorskip("textarena")


@pytest.mark.parametrize("env", ["TicTacToe-v0", "KuhnPoker-v0", "Nim-v0"])
def test_environments_keep_the_contract_of_games(textarena, env):
    check_game(lambda: make_game("textarena", {"env": env}), seeds=(0, 1), texts=["[4]", "[check]", "[0 1]"])


def test_a_game_of_tic_tac_toe_is_won_by_a_row_of_three(textarena):
    game = make_game("textarena", {"env": "TicTacToe-v0"})
    game.reset(0)
    before, total = random.getstate(), dict.fromkeys(game.seats, 0.0)
    told = {}
    for cell in (0, 3, 1, 4, 2):  # the first to move fills the upper row
        (seat,) = game.acting()
        told.setdefault(seat, game.observe(seat)[0].text)
        result = game.act({seat: f"I take [{cell}]"})
        assert result.invalid == ()
        for who, value in result.rewards.items():
            total[who] += value
    assert game.acting() == ()
    assert total == {"p1": 1.0, "p2": -1.0}
    assert "Tic Tac Toe" in told["p1"]
    assert "Player 0: I take [0]" in told["p2"]
    assert random.getstate() == before


def test_a_refused_move_is_flagged_told_and_at_last_lost(textarena):
    game = make_game("textarena", {"env": "TicTacToe-v0"})
    game.reset(0)
    assert game.act({"p1": "nowhere"}).invalid == ("p1",)
    assert game.acting() == ("p1",)
    assert "invalid move" in game.observe("p1")[0].text
    result = game.act({"p1": "nowhere again"})
    assert result.invalid == ("p1",)
    assert result.rewards == {"p1": -1.0, "p2": 1.0}


def test_what_cannot_be_played_is_refused_with_the_reason(textarena):
    with pytest.raises(RecipeError, match="did you mean 'TicTacToe-v0'"):
        make_game("textarena", {"env": "TicTacTo-v0"})
    with pytest.raises(RecipeError, match="does not start with game.seats 3"):
        make_game("textarena", {"env": "TicTacToe-v0", "seats": 3})
    alone = make_game("textarena", {"env": "QuantumTicTacToe-v0", "seats": 1})  # a game for two that does not complain
    with pytest.raises(RecipeError, match="asks player 1 of 1; raise game.seats"):
        alone.act({"p1": "[0,1]"})
    with pytest.raises(RecipeError, match="game.env: required"):
        make_game("textarena", {})
