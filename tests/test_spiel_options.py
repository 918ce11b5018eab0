"""Options of the OpenSpiel games: who stands first, what becomes of unreadable answers, what is refused."""

import re
import sys

import pytest
from test_spiel_games import OWN_WORDS, totals

from marft.errors import RecipeError
from marft.games import make_game
from marft.games.openspiel import answer
from marft.games.spiel import load_game


def test_who_stands_first_follows_the_option():
    for first in ("alice", "bob"):
        game = make_game("tic_tac_toe", {"first": first})
        game.reset(0)
        assert game.acting() == (first,)
    game, firsts = make_game("tic_tac_toe", {"first": "random"}), []
    for seed in range(400):
        game.reset(seed)
        firsts += game.acting()
    assert 150 < firsts.count("alice") < 250


def test_a_replacement_is_legal_told_and_drawn_evenly():
    game, drawn = make_game("tic_tac_toe"), []
    for seed in range(900):
        game.reset(seed)
        drawn.append(game.act({"alice": answer("10")}).actions["alice"])
        game.act({"bob": game.view("bob").say[0]})
        assert f"Your answer was no legal one: {drawn[-1]} was played instead. O took" in game.observe("alice")[0].text
    assert all(60 < drawn.count(cell) < 140 for cell in "123456789")


def test_a_replacement_is_told_once():
    game = make_game("tic_tac_toe")
    game.reset(0)
    for text, note in (("?", True), (None, False)):
        game.act({"alice": game.view("alice").say[0] if text is None else text})
        game.act({"bob": game.view("bob").say[0]})
        assert game.observe("alice")[0].text.startswith("Your answer was no legal one") == note
        assert not game.observe("alice")[0].text.startswith("You play")


def test_a_forfeit_costs_the_games_worst_return():
    def start(name, **options):
        game = make_game(name, {"invalid": "forfeit", **options})
        game.reset(0)
        return game

    kuhn = start("kuhn_poker")
    assert totals(kuhn, {"alice": "raise"}) == (-2, 2)
    assert kuhn.facts()["forfeits"] == ["alice"]
    assert totals(start("leduc_poker"), {"alice": "raise"}, {"bob": "pass"}) == (13, -13)
    throws = start("rock_paper_scissors", throws=7)
    assert totals(throws, {"alice": "rock", "bob": "scissors"}, {"alice": "lizard", "bob": "rock"}) == (-7, 7)
    both = start("rock_paper_scissors", throws=7)
    assert totals(both, {"alice": "lizard", "bob": "spock"}) == (-7, -7)
    hanabi = start("mini_hanabi")
    hanabi.deal([0, 0, 0, 2, 2, 2])
    assert totals(hanabi, {"alice": "play 1"}, {"bob": "play 9"}) == (0, 0)
    deal = start("openspiel", game="bargaining")
    assert totals(deal, {"alice": "no"}) == (0, 0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"game": "no_such_game"}, "cannot load 'no_such_game'"),
        ({"game": "kuhn_poker(players=300)"}, "cannot load"),
        ({"game": "2048"}, "has 1 players"),
        ({"game": "bridge_uncontested_bidding"}, "hides its chance"),
        ({"game": ""}, "game.game"),
        ({"first": "carol"}, "game.first: tic_tac_toe has no seat 'carol'; allowed: alice, bob, random"),
        ({"game": "kuhn_poker(players=3)", "first": "alice"}, "game.first: kuhn_poker(players=3) has no seat 'alice'"),
        ({"invalid": "penalty"}, "game.invalid"),
    ],
)
def test_a_bad_option_is_named(options, said):
    with pytest.raises(RecipeError, match=re.escape(said)):
        make_game("openspiel", options)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("connect_four", {"in_a_row": 9}, "in_a_row 9"),
        ("mini_hanabi", {"colours": 1, "ranks": 2}, "hand 3 for two needs 6 cards of a deck of 4"),
        ("rock_paper_scissors", {"throws": 1001}, "game.throws"),
        ("goofspiel", {"cards": 1}, "game.cards"),
        ("goofspiel", {"first": "bob"}, "first"),
    ],
)
def test_options_that_do_not_fit_the_game_are_refused(name, options, said):
    with pytest.raises(RecipeError, match=re.escape(said)):
        make_game(name, options)


def test_without_openspiel_the_way_to_get_it_is_told(monkeypatch):
    load_game.cache_clear()
    monkeypatch.setitem(sys.modules, "pyspiel", None)
    for name in [*OWN_WORDS, "openspiel"]:
        with pytest.raises(RecipeError, match=re.escape("pip install marft[games]")):
            make_game(name)
