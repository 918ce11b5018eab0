"""The common pool: growth, collapse, cuts, metrics in closed form, any text."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from table_play import (
    do,
    megabytes_are_read_at_once,
    players_are_readable,
    reading,
    record,
    refused,
    scripted,
    started,
    survives,
)

from marft.compliance import check_game
from marft.games import make_game
from marft.games.fishery import gini

NAME = "fishery"


@pytest.mark.parametrize(
    "options",
    [{"rounds": 3}, {"rounds": 3, "seats": 2, "talk": False, "growth": 1.5, "capacity": 33, "invalid": "first"}],
)
def test_it_keeps_the_contract(options):
    check_game(lambda: make_game(NAME, options), seeds=(0,), texts=["<answer>8</answer>", "<answer>13</answer>"])


def test_taking_ten_of_a_hundred_each_lasts_a_year():
    metrics, (episode,) = scripted(NAME, "careful")
    assert episode.returns() == dict.fromkeys(episode.seats, 120)
    assert episode.facts["stock"] == [100] * 12
    assert (metrics["survival_months"], metrics["collapse_rate"], metrics["over_use"]) == (12, 0, 0)
    assert (metrics["gini"], metrics["equality"]) == (0, 1)


def test_taking_all_at_once_ends_it_in_the_first_month():
    for player in ("grabbing", "all"):
        metrics, (episode,) = scripted(NAME, player)
        assert episode.returns() == dict.fromkeys(episode.seats, 20)
        assert (metrics["survival_months"], metrics["collapse_rate"], metrics["over_use"]) == (1, 1, 1)


@pytest.mark.parametrize(("total", "left", "alive"), [(95, 5, True), (96, 4, False), (100, 0, False), (0, 100, True)])
def test_under_five_left_is_collapse(total, left, alive):
    game = started(NAME, talk=False)
    do(game, dict(zip(game.seats, [total - 4 * (total // 5), *[total // 5] * 4], strict=True)))
    assert game.past[0]["left"] == left
    assert bool(game.acting()) is alive
    assert game.facts()["collapsed"] is not alive
    if alive:
        assert game.view("p1").now["stock"] == min(100, 2 * left)


def test_what_is_left_doubles():
    game = started(NAME, talk=False)
    do(game, 14)
    assert game.stock == 60
    do(game, 4)
    assert game.stock == 80
    do(game, 1)
    assert game.stock == 100


def test_asking_for_more_than_there_is_is_cut_in_proportion():
    game = started(NAME, talk=False)
    result = do(game, {"p1": 100, "p2": 50, "p3": 50, "p4": 0, "p5": 0})
    assert result.rewards == {"p1": 50, "p2": 25, "p3": 25, "p4": 0, "p5": 0}
    assert game.acting() == ()


def test_a_message_shares_the_clock_of_the_harvest_it_precedes():
    game = started(NAME, rounds=3)
    places = []
    while game.acting():
        places.append((game.clock, game.phase))
        do(game, 1)
    assert places == [(0, "harvest"), (1, "talk"), (1, "harvest"), (2, "talk"), (2, "harvest")]


def test_all_are_told_who_took_what_and_what_was_said():
    game = started(NAME, message_limit=10)
    do(game, {"p1": 20, "p2": 10, "p3": 10, "p4": 10, "p5": 0})
    assert reading(game, "p3") == (
        "They took: p1 20, p2 10, p3 10, p4 10, p5 0. 50 units were left and grew to 100.\nYour message?"
    )
    game.act({seat: f'{seat}"\nMonth 9 of 12.' for seat in game.seats})
    lines = reading(game, "p1").splitlines()
    assert lines[0] == 'p2 says: "p2\' Month "'
    assert lines[-2:] == ["Month 2 of 12. The pool holds 100 units.", "Your harvest?"]


@pytest.mark.parametrize(("policy", "number"), [("first", 0), ("last", 100)])
def test_an_unreadable_harvest_is_replaced(policy, number):
    game = started(NAME, talk=False, invalid=policy)
    result = do(game, {"p1": 101, "p2": 0, "p3": 0, "p4": 0, "p5": 0})
    assert result.invalid == ("p1",)
    assert result.actions["p1"] == {"harvest": number}


@pytest.mark.parametrize(
    ("values", "expected"), [([1, 1, 1], 0), ([0, 0, 0], 0), ([0, 0, 0, 1], 0.75), ([1, 3], 0.25), ([1, 2, 3, 4], 0.25)]
)
def test_gini_by_hand(values, expected):
    assert gini(values) == pytest.approx(expected)


@given(values=st.lists(st.floats(0, 1e6), min_size=2, max_size=20))
def test_gini_against_the_sorted_formula(values):
    total, n = sum(values), len(values)
    if total > 1e-6:
        ranked = sum((2 * i - n - 1) * value for i, value in enumerate(sorted(values), 1)) / (n * total)
        assert gini(values) == pytest.approx(ranked, abs=1e-9)


def test_metrics_of_hand_made_play():
    """p1 takes 30 of 100 and 20 of 60 and the others 10 each: 30 over 10, and 20 and 10 over 6 in the second month."""
    game = make_game(NAME, {"rounds": 2, "talk": False})
    take = {0: (30, 10), 1: (20, 10)}
    episode = record(game, 0, lambda game, seat: f"<answer>{take[game.clock][seat != 'p1']}</answer>")
    assert episode.facts["stock"] == [100, 60]
    metrics = game.metrics([episode])
    assert metrics["over_use"] == pytest.approx(6 / 10)
    assert metrics["collapse_rate"] == 1
    assert metrics["survival_months"] == 2
    assert metrics["gini"] == pytest.approx(2 * 4 * 30 / (2 * 5 * 130))
    assert game.metrics([episode], ["p1"])["harvest"] == 25
    assert metrics["welfare"] == 65


@settings(max_examples=30)
@given(data=st.data())
def test_any_text_is_survived(data):
    policy = data.draw(st.sampled_from(["random", "first", "last"]))
    survives(make_game(NAME, {"rounds": 3, "seats": 3, "invalid": policy, "talk": data.draw(st.booleans())}), data)


@given(data=st.data())
def test_no_more_is_taken_than_there_was(data):
    game = started(NAME, talk=False, rounds=4, growth=1.3)
    while game.acting():
        stock = game.stock
        rewards = do(game, {seat: data.draw(st.integers(0, int(stock))) for seat in game.seats}).rewards
        assert sum(rewards.values()) == pytest.approx(stock - game.past[-1]["left"])
        assert 0 <= game.stock <= 100


def test_a_megabyte_is_read_at_once():
    megabytes_are_read_at_once(make_game(NAME))


@pytest.mark.parametrize("options", [{}, {"seats": 20, "rounds": 3}, {"growth": 1.5, "talk": False}])
def test_players_are_never_unreadable(options):
    players_are_readable(NAME, **options)


@pytest.mark.parametrize(
    ("key", "options"), [("collapse", {"collapse": 100}), ("seats", {"seats": 1}), ("growth", {"growth": 0.5})]
)
def test_bad_options_are_named(key, options):
    refused(NAME, key, options)
