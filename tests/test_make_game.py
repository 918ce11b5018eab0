"""From a recipe's game and options to a Game: what cannot be used is named, with what is allowed."""

import math

import pytest

from marft.errors import RecipeError
from marft.games import GAMES, find_game, make_game

PD = "prisoners_dilemma"


@pytest.mark.parametrize(
    "options",
    [
        {"rounds": 0},
        {"rounds": True},
        {"rounds": 1.5},
        {"continue_probability": 1.0},
        {"continue_probability": 0.0},
        {"invalid": "penalty"},
        {"action_names": ["A", "AB"]},
        {"action_names": ["A", "A"]},
        {"action_names": ["", "B"]},
        {"action_names": [" A", "B"]},
        {"action_names": ["A\n", "B"]},
        {"action_names": ["A", "B", "C"]},
        {"message_limit": 0},
        {"payoffs": {"T": math.inf}},
        {"payoffs": {"T": math.nan}},
        {"payoffs": 3},
    ],
)
def test_a_bad_option_is_named_with_its_value(options):
    with pytest.raises(RecipeError) as error:
        make_game(PD, options)
    (option,) = options
    assert str(error.value).startswith(f"{PD}: game.{option}")
    assert "got" in str(error.value) or "allowed" in str(error.value)
    assert "\n" not in str(error.value)


def test_an_unknown_option_names_the_nearest():
    with pytest.raises(RecipeError, match=r"game\.round: unknown key; did you mean 'rounds'"):
        make_game(PD, {"round": 3})
    with pytest.raises(RecipeError, match=r"game\.payoffs\.t: unknown key"):
        make_game(PD, {"payoffs": {"t": 3}})


def test_several_bad_options_give_a_line_each():
    with pytest.raises(RecipeError) as error:
        make_game(PD, {"rounds": -1, "cheap_talks": True})
    assert len(str(error.value).splitlines()) == 2


def test_an_unknown_game_names_the_nearest():
    with pytest.raises(RecipeError, match="did you mean 'stag_hunt'"):
        make_game("staghunt")


GAME_FILE = """
from marft.games.matrix import PrisonersDilemma
class Mine(PrisonersDilemma):
    name = "mine"
class Half(__import__("marft.game").game.Game):
    name = "half"
"""


def test_a_users_own_file_or_module_is_a_game_too(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(GAME_FILE)
    assert make_game(f"{path}:Mine", {"rounds": 2}).options.rounds == 2
    assert find_game(f"{path}:Mine") is find_game(f"{path}:Mine")
    assert find_game("marft.games.matrix:Chicken") is GAMES["chicken"]
    for name, message in {
        f"{path}:Main": "did you mean 'Mine'",
        f"{path}:Half": "does not define act, acting, observe, reset",
        f"{path}:__name__": "not a subclass",
        f"{tmp_path}/none.py:Mine": "there is no file",
        "no_such_module:Mine": "cannot be imported: ModuleNotFoundError",
    }.items():
        with pytest.raises(RecipeError, match=message):
            make_game(name)


def test_an_error_in_a_users_file_names_its_line(tmp_path):
    path = tmp_path / "broken.py"
    path.write_text("x = 1\nx / 0\n")
    with pytest.raises(RecipeError, match=r"ZeroDivisionError.*broken\.py, line 2"):
        make_game(f"{path}:Mine")


def test_an_installed_package_can_add_games_by_entry_point(tmp_path, monkeypatch):
    info = tmp_path / "added-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: added\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[marft.games]\nadded_game = marft.games.matrix:Chicken\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert find_game("added_game") is GAMES["chicken"]
    with pytest.raises(RecipeError, match="did you mean 'added_game'"):
        find_game("addedgame")
