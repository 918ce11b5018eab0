"""The bandit: every seat is paid for its own arm alone, by the options alone; any text is survived."""

import math
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from table_play import any_text, reading, record, refused, scripted, started

from marft.compliance import NASTY, check_game
from marft.game import play_scripted
from marft.games import find_game, make_game
from marft.games.bandit import ANSWER_LIMIT, NAMES

NAME = "bandit"
THREE = {"seats": 3, "arms": ["left", "middle", "right"], "best": [2, 0, 1, 1], "pays": [2.5, -1.0]}


@pytest.mark.parametrize("options", [{}, THREE, {"seats": 1, "best": [1]}, {"seats": 8}])
def test_it_keeps_the_contract(options):
    check_game(lambda: make_game(NAME, options), seeds=(0, 1), texts=["<A>", "right", "I take <B>."])


def pull(game, **texts):
    return game.act(texts)


def test_the_best_arm_of_the_step_pays_one_and_others_nothing():
    game = started(NAME)
    assert pull(game, alice="<A>", bob="<B>").rewards == {"alice": 1.0, "bob": 0.0}
    assert pull(game, alice="<A>", bob="<B>").rewards == {"alice": 0.0, "bob": 1.0}
    last = pull(game, alice="<A>", bob="<A>")
    assert (last.rewards, last.actions, last.invalid) == ({"alice": 1.0, "bob": 1.0}, {"alice": 0, "bob": 0}, ())
    assert (game.acting(), game.clock) == ((), 3)


def test_pays_seats_arms_and_steps_are_the_options():
    game = started(NAME, **THREE)
    assert game.seats == NAMES[:3]
    assert pull(game, alice="left", bob="middle", carol="right").rewards == {"alice": -1.0, "bob": -1.0, "carol": 2.5}
    assert pull(game, alice="the left one", bob="?", carol="right").rewards == {"alice": 2.5, "bob": 0.0, "carol": -1.0}
    for _ in range(2):
        assert game.acting() == game.seats
        pull(game, **dict.fromkeys(game.seats, "middle"))
    assert game.acting() == ()
    assert game.facts() == {"answer": "right left middle middle"}


@pytest.mark.parametrize(
    ("text", "arm"),
    [
        ("<A>", 0),
        ("<B>", 1),
        ("I pull <B>, yes, <B>!", 1),
        ("<A> or <B>", None),
        ("A", None),
        ("<a>", None),
        ("", None),
        ("<A>" + " " * (ANSWER_LIMIT - 3), 0),
        ("<A>" + " " * (ANSWER_LIMIT - 2), None),
    ],
)
def test_an_answer_names_one_arm_and_no_other(text, arm):
    game = started(NAME, seats=1, pays=[1.0, -2.0])
    result = pull(game, alice=text)
    assert result.actions == {"alice": arm}
    assert result.invalid == (() if arm is not None else ("alice",))
    assert result.rewards == {"alice": {0: 1.0, 1: -2.0, None: 0.0}[arm]}


@settings(max_examples=40)
@given(st.lists(st.sampled_from(["<A>", "<B>", "", "<A><B>"]), min_size=6, max_size=6), st.data())
def test_what_one_seat_does_touches_no_other(texts, data):
    """Neither its pay nor what it reads."""
    others = data.draw(st.lists(any_text, min_size=3, max_size=3))
    told = []
    for theirs in (texts[3:], others):
        game = started(NAME, seats=2)
        heard = []
        for mine, other in zip(texts[:3], theirs, strict=True):
            heard.append(reading(game, "alice"))
            result = pull(game, alice=mine, bob=other)
            heard.append((result.rewards["alice"], result.actions["alice"], "alice" in result.invalid))
        told.append(heard)
    assert told[0] == told[1]


def test_a_seat_is_told_the_rules_and_then_what_it_earned():
    game = started(NAME, seats=2, best=[0, 1], pays=[0.5, 0.0])
    rules = reading(game, "bob")
    assert "<A> <B>" in rules
    assert "2 steps" in rules
    assert "1 step." in reading(started(NAME, best=[1]), "alice")
    pull(game, alice="<A>", bob="<B>")
    assert reading(game, "alice") == "It paid 0.5. Your arm?"
    assert reading(game, "bob") == "It paid 0. Your arm?"


def test_the_seed_changes_nothing():
    plays = [[result.rewards for result in play_scripted(make_game(NAME), seed, both("best"))] for seed in (0, 7)]
    assert plays[0] == plays[1] == [{"alice": 1.0, "bob": 1.0}] * 3


def both(name):
    return dict.fromkeys(("alice", "bob"), find_game(NAME).players[name])


@pytest.mark.parametrize(("player", "mean"), [("best", 4 * 2.5), ("first", 2.5 - 3), ("last", 2.5 - 3)])
def test_players_earn_what_their_arms_pay(player, mean):
    metrics, episodes = scripted(NAME, player, 2, **THREE)
    assert metrics == {"return": mean, "invalid": 0.0}
    assert all(set(episode.returns().values()) == {mean} for episode in episodes)


def test_random_pulls_every_arm_alike():
    game, rng = started(NAME, **THREE), random.Random(0)
    pulls = Counter(game.players["random"](game.view("bob"), rng) for _ in range(3000))
    assert set(pulls) == set(THREE["arms"])
    assert all(abs(count / 3000 - 1 / 3) < 0.04 for count in pulls.values())


def test_players_stay_readable_to_the_end_and_their_view_names_the_step():
    for options in ({}, THREE):
        for name in find_game(NAME).players:
            _, (episode,) = scripted(NAME, name, 1, **options)
            assert not any(turn.invalid for turn in episode.turns)
    game = started(NAME, best=[1, 0], seats=1)
    assert game.view("alice") == (0, ("<A>", "<B>"), 1)
    pull(game, alice="")
    assert game.view("alice") == (1, ("<A>", "<B>"), 0)
    pull(game, alice="")
    assert game.view("alice").step == 2  # over: still no error


def test_metrics_of_hand_made_play():
    game = make_game(NAME, {"best": [0, 0]})
    said = iter(["<A>", "<B>", "<A>", "what?"])
    episode = record(game, 0, lambda game, seat: next(said))
    assert game.metrics([episode]) == {"return": 1.0, "invalid": 0.25}
    assert game.metrics([episode], ["alice"]) == {"return": 2.0, "invalid": 0.0}
    assert game.metrics([episode], ["bob"]) == {"return": 0.0, "invalid": 0.5}
    assert all(math.isnan(value) for value in game.metrics([]).values())


@pytest.mark.parametrize(
    ("key", "options"),
    [
        ("best", {"best": [0, 2]}),
        ("best", {"best": [-1]}),
        ("best", {"best": []}),
        ("arms", {"arms": ["A"]}),
        ("arms", {"arms": ["A", "A"]}),
        ("arms", {"arms": ["arm 1", "arm 10"]}),
        ("arms", {"arms": ["", "A"]}),
        ("seats", {"seats": 0}),
        ("seats", {"seats": 9}),
        ("pays", {"pays": 1.0}),
        ("pays", {"pays": [float("inf"), 0.0]}),
        ("pays", {"pays": [1.0, float("nan")]}),
    ],
)
def test_bad_options_are_named(key, options):
    refused(NAME, key, options)


@settings(max_examples=40)
@given(st.data())
def test_any_text_is_survived(data):
    game = started(NAME, seats=3)
    for _ in range(3):
        texts = {seat: data.draw(any_text) for seat in game.seats}
        result = game.act(texts)
        assert set(result.rewards) == set(texts)
    assert game.acting() == ()
    for text in NASTY:
        assert started(NAME, seats=1).act({"alice": text}).invalid == ("alice",)
