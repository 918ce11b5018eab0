"""Scripted players of the matrix games do what their names promise, whatever the seat, the names and the talk."""

import random

import pytest

from marft.game import play_scripted
from marft.games import GAMES, make_game
from marft.games.matrix import MatrixGame, MatrixView
from marft.games.players import GREETING, PLAYERS

PD_PAYOFFS = ((3.0, 0.0), (5.0, 1.0))


def choose(name, own, other, payoffs=PD_PAYOFFS, seed=0):
    """0 or 1 for a history written as "CDC"."""
    moves = [tuple("CD".index(move) for move in history) for history in (own, other)]
    view = MatrixView(len(own), 10, *moves, "move", ("yes", "no"), payoffs, None)
    return ("yes", "no").index(PLAYERS[name](view, random.Random(seed)))


@pytest.mark.parametrize(
    ("name", "own", "other", "move"),
    [
        ("AllC", "CC", "DD", 0),
        ("AllD", "DD", "CC", 1),
        ("TFT", "", "", 0),
        ("TFT", "CC", "CD", 1),
        ("TFT", "CD", "DC", 0),
        ("Grim", "", "", 0),
        ("Grim", "CCC", "DCC", 1),
        ("Grim", "DDD", "CCC", 0),
        ("WSLS", "", "", 0),
        ("WSLS", "C", "C", 0),
        ("WSLS", "C", "D", 1),
        ("WSLS", "D", "C", 1),
        ("WSLS", "D", "D", 0),
        ("alternating", "", "", 0),
        ("alternating", "C", "C", 1),
        ("alternating", "CD", "CC", 0),
    ],
)
def test_the_next_move_follows_from_the_history(name, own, other, move):
    assert choose(name, own, other) == move


def test_win_stay_lose_shift_stays_where_both_met_in_a_coordination_game():
    for payoffs in (((3.0, 0.0), (0.0, 2.0)), ((2.0, 0.0), (0.0, 3.0))):
        assert [choose("WSLS", own, other, payoffs) for own, other in ("CC", "DD", "CD", "DC")] == [0, 1, 1, 0]


def test_random_takes_either_half_the_time():
    share = sum(choose("random", "", "", seed=seed) for seed in range(2000)) / 2000
    assert abs(share - 0.5) < 0.05


@pytest.mark.parametrize("game", sorted(name for name, cls in GAMES.items() if issubclass(cls, MatrixGame)))
@pytest.mark.parametrize("options", [{}, {"cheap_talk": True, "shuffle_names": True}])
def test_players_are_never_unreadable(game, options):
    for name, player in PLAYERS.items():
        for seed in range(4):
            played = play_scripted(make_game(game, options), seed, {"alice": player, "bob": PLAYERS["random"]})
            assert not any(result.invalid for result in played), name


def test_talk_is_the_same_from_every_player():
    for player in PLAYERS.values():
        result = play_scripted(
            make_game("prisoners_dilemma", {"cheap_talk": True}), 0, {"alice": player, "bob": player}
        )
        assert result[0].actions == {"alice": {"say": GREETING}, "bob": {"say": GREETING}}


def test_win_stay_lose_shift_recovers_from_one_defection():
    game = make_game("prisoners_dilemma", {"rounds": 4})
    game.reset(0)
    game.act({"alice": "<B>", "bob": "<A>"})  # a slip of alice
    joint = []
    while game.acting():
        result = game.act({seat: PLAYERS["WSLS"](game.view(seat), random.Random(0)) for seat in game.seats})
        joint.append("".join(result.actions.values()))
    assert joint == ["DD", "CC", "CC"]  # Nowak and Sigmund 1993: one round of punishment, then peace


def test_a_replaced_choice_is_history_like_any_other():
    game = make_game("prisoners_dilemma", {"invalid": "second"})
    game.reset(0)
    game.act({"alice": "nothing", "bob": "<A>"})
    assert PLAYERS["TFT"](game.view("bob"), random.Random(0)) == "<B>"
