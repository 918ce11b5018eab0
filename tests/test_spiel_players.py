"""Scripted players of the OpenSpiel games: legal, functions of their view alone, and as strong as they claim."""

import random

import pytest

from marft.config import Tiny
from marft.game import play_scripted
from marft.games import GAMES, make_game
from marft.games.boards import best_cells
from marft.games.openspiel import SpielGame
from marft.games.spiel_players import equilibrium, state_of
from marft.tiny import scripted_play

NAMES = sorted(name for name, cls in GAMES.items() if issubclass(cls, SpielGame))


def returns_of(name, first, second, episodes, options=None):
    """Mean return of each player of two, the first being OpenSpiel's player 0."""
    game = make_game(name, options)
    players = {"alice": game.players[first], "bob": game.players[second]}
    sums = [0.0, 0.0]
    for seed in range(episodes):
        results = play_scripted(game, seed, players)
        assert not any(result.invalid for result in results)
        for i, seat in enumerate(game.seats):
            sums[i] += sum(result.rewards.get(seat, 0.0) for result in results)
    return [total / episodes for total in sums]


@pytest.mark.parametrize("name", NAMES)
def test_every_player_answers_legally_and_again_the_same(name):
    game = make_game(name)
    for player in game.players.values():
        again = []
        for _ in range(2):
            results = play_scripted(game, 5, dict.fromkeys(game.seats, player))
            assert not any(result.invalid for result in results)
            again.append(results)
        assert again[0] == again[1]


def test_perfect_tic_tac_toe_is_a_draw_with_itself_and_never_loses():
    assert best_cells("." * 9, "X")[0] == 0
    assert returns_of("tic_tac_toe", "perfect", "perfect", 100) == [0, 0]
    game = make_game("tic_tac_toe")
    for seat, other in (("alice", "bob"), ("bob", "alice")):
        for opponent in ("random", "first", "last", "mcts100"):
            players = {seat: game.players["perfect"], other: game.players[opponent]}
            for seed in range(60):
                assert play_scripted(game, seed, players)[-1].rewards[seat] >= 0


def test_perfect_play_answers_the_corner_with_the_centre():
    assert best_cells("X........", "O") == (0, (4,))
    assert best_cells("XX.OO....", "X") == (1, (2,))


def test_search_beats_random_play_and_more_search_less_search():
    assert returns_of("connect_four", "mcts100", "random", 20)[0] > 0.8
    assert returns_of("connect_four", "random", "mcts100", 20)[1] > 0.8
    assert returns_of("connect_four", "mcts1000", "mcts100", 10)[0] > 0


def test_a_state_is_rebuilt_from_the_view():
    for name, options in (("connect_four", {}), ("goofspiel", {"cards": 5}), ("rock_paper_scissors", {})):
        game = make_game(name, options)
        game.reset(1)
        rng = random.Random(0)
        while seats := game.acting():
            assert str(state_of(game.view(seats[0]))) == str(game.state)
            game.act({seat: game.players["random"](game.view(seat), rng) for seat in seats})


def test_nobodys_view_of_a_game_with_secrets_holds_the_history():
    for name, options in (
        ("kuhn_poker", {}),
        ("liars_dice", {}),
        ("mini_hanabi", {}),
        ("goofspiel", {"hidden_bids": True}),
    ):
        game = make_game(name, options)
        game.reset(0)
        assert [game.view(seat).history for seat in game.seats] == [None, None]
        assert game.view("alice").info != game.view("bob").info


def test_kuhn_equilibrium_is_the_known_family():
    """Kuhn 1950: the first player bets a jack with probability a, a king with 3a, no queen; the second is fixed."""
    policy = equilibrium("kuhn_poker", 2000)
    jack = policy["0"][1]
    assert 0 <= jack <= 1 / 3 + 0.01
    assert policy["2"][1] == pytest.approx(3 * jack, abs=0.02)
    assert policy["1"][1] == pytest.approx(0, abs=0.01)
    assert policy["1pb"][1] == pytest.approx(jack + 1 / 3, abs=0.02)
    for info, bet in {"0p": 1 / 3, "1p": 0, "2p": 1, "0b": 0, "1b": 1 / 3, "2b": 1}.items():
        assert policy[info][1] == pytest.approx(bet, abs=0.02)


def test_equilibrium_play_earns_the_games_value():
    first, second = returns_of("kuhn_poker", "cfr", "cfr", 20_000)
    assert first == pytest.approx(-1 / 18, abs=0.035)  # four standard errors of 1.3 chips over 20,000 episodes
    assert first == -second
    assert returns_of("leduc_poker", "cfr", "random", 1000)[0] > 0.5
    assert returns_of("leduc_poker", "random", "cfr", 1000)[1] > 0.5


def test_rules_of_thumb_beat_random_play():
    assert returns_of("goofspiel", "match_prize", "random", 300)[0] > 0.5
    assert returns_of("liars_dice", "cautious", "random", 500)[0] > 0.2
    assert returns_of("liars_dice", "random", "cautious", 500)[1] > 0.2
    assert returns_of("kuhn_poker", "by_card", "random", 2000)[0] > 0.1
    assert returns_of("rock_paper_scissors", "beat_last", "first", 100)[0] > 8
    assert returns_of("rock_paper_scissors", "copy_last", "cycle", 100)[0] < -8


def test_wary_play_earns_what_its_cards_are_worth():
    """By hand, over the three cards: against bets the king alone goes along, 2 - 1 - 1; as second after a pass the king
    and the queen take the pot and the jack loses it, 1 + 1 - 1; as first they open with 1 (king), 0 and -1."""
    for first, second, value in [
        ("last", "wary", 0),
        ("wary", "last", 0),
        ("first", "wary", -1 / 3),
        ("wary", "first", 0),
    ]:
        assert returns_of("kuhn_poker", first, second, 3000)[0] == pytest.approx(value, abs=0.1)  # 4 standard errors


def test_cooperation_pays_in_hanabi():
    """Of 4 points in the small game, of 25 in the whole one, where random play loses every life."""
    small = {name: returns_of("mini_hanabi", name, name, 200)[0] for name in ("cooperative", "random")}
    assert small["cooperative"] > small["random"] + 1
    whole = {"colours": 5, "ranks": 5, "hand": 5, "hints": 8}
    assert returns_of("mini_hanabi", "cooperative", "cooperative", 50, whole)[0] > 15
    assert returns_of("mini_hanabi", "random", "random", 50, whole)[0] < 1


@pytest.mark.parametrize("name", ["kuhn_poker", "mini_hanabi", "tic_tac_toe"])
def test_play_for_a_tiny_model_speaks_the_format(name):
    for script in scripted_play(make_game(name), Tiny(warmup_episodes=20)):
        for heard, said in script:
            assert heard[0].role == "user"
            assert said.startswith("<answer>")
            assert said.endswith("</answer>")
