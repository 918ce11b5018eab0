"""What holds for every game around a table: options, metrics, views, replacements; and for the tools they share."""

import math
import sys
from importlib.util import find_spec

import pytest
from table_play import do, reading, record, started

from marft.errors import RecipeError
from marft.game import StepResult, play_scripted
from marft.games import GAMES, make_game
from marft.games.deal_or_no_deal import instances
from marft.games.table import TableGame
from marft.games.tally import tally

ALL = sorted(name for name, cls in GAMES.items() if issubclass(cls, TableGame))
NAMES = [name for name in ALL if name != "deal_or_no_deal" or find_spec("pyspiel")]


def test_all_games_around_a_table_are_registered():
    assert len(ALL) == 19
    assert all(GAMES[name].name == name for name in ALL)


def test_without_open_spiel_it_says_what_to_install(monkeypatch):
    instances.cache_clear()
    monkeypatch.setitem(sys.modules, "pyspiel", None)
    with pytest.raises(RecipeError, match=r"deal_or_no_deal.*pip install 'marft\[games\]'"):
        make_game("deal_or_no_deal")


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_option_names_the_nearest(name):
    with pytest.raises(RecipeError, match=rf"{name}: game\.round: unknown key; did you mean 'rounds'"):
        make_game(name, {"round": 3})
    with pytest.raises(ValueError, match="frozen"):
        make_game(name).options.rounds = 3


@pytest.mark.parametrize("name", NAMES)
def test_the_rules_are_short_and_show_an_answer(name):
    game = started(name)
    (seat, *_) = game.acting()
    text = reading(game, seat)
    assert 40 <= len(text.split()) <= 180
    assert any(mark in text for mark in ("<answer>", "Proposal: ", "<<proposal_start>>"))
    assert seat in text


@pytest.mark.parametrize("name", NAMES)
def test_the_rules_come_once(name):
    game = started(name, rounds=3)
    seen = {seat: [] for seat in game.seats}
    while game.acting():
        for seat in game.acting():
            seen[seat].append(reading(game, seat))
        game.act(dict.fromkeys(game.acting(), ""))
    for seat, texts in seen.items():
        assert sum(f"You are {seat}" in text for text in texts) == bool(texts)


@pytest.mark.parametrize("name", NAMES)
def test_every_game_has_the_common_metrics_pooled_and_per_seat(name):
    game = make_game(name, {"rounds": 2})
    episodes = [record(game, seed, "random") for seed in range(3)]
    metrics = game.metrics(episodes)
    seats = game.seats
    assert metrics["invalid"] == 0
    returns = [sum(episode.returns()[seat] for episode in episodes) / 3 for seat in seats]
    assert metrics["return"] == pytest.approx(sum(returns) / len(seats))
    assert [metrics[f"return_{seat}"] for seat in seats] == pytest.approx(returns)
    joint = [sum(e.returns().values()) / e.facts["played"] for e in episodes]
    assert metrics["welfare"] == pytest.approx(sum(joint) / 3)
    assert set(game.metrics(episodes, seats[:1])) < set(metrics)
    assert game.metrics([]).keys() <= metrics.keys()


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_and_players_give_the_same_episode(name):
    game = make_game(name, {"rounds": 3})
    players = dict.fromkeys(game.seats, game.players["random"])
    first = play_scripted(game, 5, players)
    assert play_scripted(make_game(name, {"rounds": 3}), 5, players) == first
    assert all(isinstance(result, StepResult) for result in first)


def test_random_replacements_differ_between_seats_and_rounds():
    game = started("public_goods", 1)
    drawn = []
    for _ in range(10):
        actions = do(game, "?").actions
        drawn.append(tuple(actions[seat]["give"] for seat in game.seats))
    assert len(set(drawn)) > 5
    assert len({number for numbers in drawn for number in numbers}) > 8


def test_a_tally_refuses_names_it_was_not_told_of():
    episode = record(make_game("ultimatum"), 0, "fair")
    with pytest.raises(KeyError, match="new"):
        tally([episode], None, lambda episode: [(None, "new", 1.0)])
    assert math.isnan(tally([episode], None, lambda episode: [], own=("seen",))["alice/seen"])
