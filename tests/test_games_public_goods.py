"""Public goods, at once and in turn: closed-form payoffs, punishment, what is seen when, metrics, any text."""

import math

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
from marft.games.public_goods import read_points

AT_ONCE, IN_TURN = "public_goods", "sequential_public_goods"
BOTH = (AT_ONCE, IN_TURN)


def give(game, numbers):
    """All contributions of a round, p1's first; returns the last result."""
    while game.phase == "give" and game.acting():
        clock = game.clock
        result = do(game, {seat: numbers[game.seats.index(seat)] for seat in game.acting()})
        if game.phase != "give" or game.clock != clock:
            return result
    raise AssertionError("nobody gives")


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize(
    "options",
    [
        {"rounds": 3},
        {"rounds": 2, "seats": 3, "talk": True, "punishment": True, "message_limit": 20, "invalid": "last"},
    ],
)
def test_they_keep_the_contract(name, options):
    check_game(lambda: make_game(name, options), seeds=(0,), texts=["<answer>p2 3, p3 1</answer>"])


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize(
    ("given", "paid"),
    [
        ([20, 20, 20, 20], [32, 32, 32, 32]),
        ([0, 0, 0, 0], [20, 20, 20, 20]),
        ([0, 20, 20, 20], [44, 24, 24, 24]),
        ([20, 0, 0, 0], [8, 28, 28, 28]),
        ([10, 10, 10, 10], [26, 26, 26, 26]),
    ],
)
def test_payoffs_of_four_with_twenty_coins_times_1_6(name, given, paid):
    assert list(give(started(name), given).rewards.values()) == pytest.approx(paid)


@given(given=st.lists(st.integers(0, 20), min_size=2, max_size=20), multiplier=st.floats(1.01, 1.99))
def test_the_pot_pays_out_what_is_put_in_times_the_multiplier(given, multiplier):
    game = started(AT_ONCE, seats=len(given), multiplier=multiplier)
    rewards = give(game, given).rewards
    assert sum(rewards.values()) == pytest.approx(20 * len(given) + (multiplier - 1) * sum(given))
    assert len({round(rewards[seat] + number, 9) for seat, number in zip(game.seats, given, strict=True)}) == 1


@pytest.mark.parametrize(
    ("player", "mean"), [("full", 32), ("free_rider", 20), ("half", 26), ("conditional", 32), ("punisher", 32)]
)
@pytest.mark.parametrize("name", BOTH)
def test_self_play_means_per_agent_and_round(name, player, mean):
    metrics, _ = scripted(name, player, punishment=True)
    assert metrics["return"] / 10 == pytest.approx(mean)
    assert metrics["contribution_share"] == pytest.approx((mean - 20) / 12)
    assert metrics["points"] == 0


def test_in_turn_each_sees_those_before_and_another_begins_each_round():
    game = started(IN_TURN)
    order = []
    for number in (5, 6, 7, 8, 9):
        (seat,) = game.acting()
        order.append(seat)
        do(game, number)
    assert order == ["p1", "p2", "p3", "p4", "p2"]
    assert reading(game, "p3").splitlines()[-3:] == ["Round 2 of 10.", "p2 gave 9.", "Your contribution?"]
    fixed = started(IN_TURN, rotate=False)
    give(fixed, [1, 2, 3, 4])
    assert fixed.acting() == ("p1",)


def test_in_turn_what_comes_later_is_not_seen():
    seen = set()
    for number in (0, 20):
        game = started(IN_TURN)
        do(game, 3)
        twin = game.clone()
        do(game, number)  # p2
        seen.add((reading(twin, "p2"), repr(twin.view("p2"))))
    assert len(seen) == 1


def test_all_of_a_round_shares_its_clock():
    game = started(AT_ONCE, rounds=2, talk=True, punishment=True)
    places = []
    while game.acting():
        places.append((game.clock, game.phase))
        do(game, "none" if game.phase == "punish" else 3)
    assert places == [(clock, phase) for clock in (0, 1) for phase in ("talk", "give", "punish")]


def test_a_point_costs_one_and_takes_three():
    game = started(AT_ONCE, punishment=True)
    give(game, [20, 20, 20, 0])
    result = do(game, {"p1": "p4 5", "p2": "p4 2, p1 1", "p3": "none", "p4": "none"})
    assert result.rewards == {"p1": -5 - 3, "p2": -3, "p3": 0, "p4": -21}
    assert result.actions["p2"] == {"punish": {"p4": 2, "p1": 1}}
    assert "You got 7 points, which with your own cost you 21." in reading(game, "p4")


@pytest.mark.parametrize(
    ("text", "points"),
    [
        ("none", {}),
        ("p2 3", {"p2": 3}),
        ("p2 3,p3  4", {"p2": 3, "p3": 4}),
        ("p2 10", {"p2": 10}),
        ("p2 11", None),
        ("p2 6, p3 5", None),
        ("p1 1", None),
        ("p2 1, p2 1", None),
        ("p9 1", None),
        ("p2 -1", None),
        ("p2", None),
        ("3", None),
        ("p2 ١", None),
        (",,,,", None),
        ("", None),
    ],
)
def test_points_are_read_as_written(text, points):
    assert read_points(f"<answer>{text}</answer>", ["p2", "p3"], 10) == points
    assert read_points(text, ["p2", "p3"], 10) is None


def test_unreadable_points_are_none_and_counted():
    game = started(AT_ONCE, punishment=True, invalid="last")
    give(game, [20, 20, 20, 0])
    result = game.act(dict.fromkeys(game.seats, "p4 3"))
    assert result.invalid == game.seats
    assert set(result.rewards.values()) == {0}


def test_the_punisher_punishes_who_gave_least():
    game = started(AT_ONCE, punishment=True)
    give(game, [20, 0, 20, 5])
    assert game.players["punisher"](game.view("p1"), None) == "<answer>p2 3, p4 3</answer>"


@pytest.mark.parametrize(("policy", "number"), [("first", 0), ("last", 20)])
def test_an_unreadable_contribution_is_replaced_and_told(policy, number):
    game = started(AT_ONCE, invalid=policy)
    result = do(game, {"p1": 21, "p2": "nan", "p3": 10, "p4": "١٢"})
    assert result.invalid == ("p1", "p2", "p4")
    assert result.actions["p4"] == {"give": number}
    assert reading(game, "p1").startswith(f"Unreadable: {number} was played for you.\nThey gave: p1 {number},")


def test_talk_reaches_all_others_cut_and_in_quotes():
    game = started(AT_ONCE, talk=True, message_limit=12)
    game.act({seat: f'{seat} "\nRound 9 of 10.' for seat in game.seats})
    assert reading(game, "p2").splitlines() == [
        *(f'{seat} says: "{seat} \' Round 9"' for seat in ("p1", "p3", "p4")),
        "Your contribution?",
    ]


def test_metrics_of_hand_made_play():
    given = {"p1": 0, "p2": 10, "p3": 20, "p4": 20}

    def speak(game, seat):
        move = given[seat] if game.phase == "give" else "p1 4" if seat == "p4" else "none"
        return f"<answer>{move}</answer>" if seat != "p2" or game.clock else "?"

    game = make_game(AT_ONCE, {"rounds": 2, "punishment": True, "invalid": "first"})
    metrics = game.metrics([record(game, 0, speak), record(game, 1, speak, status="failed")])
    assert metrics["contribution_share"] == pytest.approx((0 + 0 + 20 + 20 + 0 + 10 + 20 + 20) / 160)
    assert metrics["p2/contribution_share"] == pytest.approx(0.25)
    assert metrics["points"] == 1
    assert metrics["p2/invalid"] == 0.5
    # round 1: p1 and p2 gave nothing (p1 loses 12 to points), p3 and p4 all (p4 pays 4); round 2: p1 against p3 and p4
    assert metrics["free_rider_gap"] == pytest.approx(((20 - 12 / 2) - (0 - 4 / 2) + (20 - 12) - (0 - 4 / 2)) / 2)
    assert metrics["welfare"] == pytest.approx(80 + 0.6 * 45 - 16)
    assert math.isnan(scripted(AT_ONCE, "full")[0]["free_rider_gap"])
    assert math.isnan(scripted(AT_ONCE, "full")[0]["points"])
    assert game.metrics([record(game, 0, speak)], ["p1"])["contribution_share"] == 0


@settings(max_examples=30)
@given(data=st.data(), name=st.sampled_from(BOTH))
def test_any_text_is_survived(data, name):
    policy = data.draw(st.sampled_from(["random", "first", "last"]))
    options = {"rounds": 2, "seats": 3, "invalid": policy, "talk": data.draw(st.booleans()), "punishment": True}
    survives(make_game(name, options), data)


def test_a_megabyte_is_read_at_once():
    game = make_game(AT_ONCE, {"talk": True, "punishment": True})
    megabytes_are_read_at_once(game, "<answer>" + "p2 1," * 200_000 + "</answer>")


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize(
    "options", [{}, {"seats": 20, "rounds": 2, "talk": True, "punishment": True}, {"seats": 2, "endowment": 1}]
)
def test_players_are_never_unreadable(name, options):
    players_are_readable(name, **options)


@pytest.mark.parametrize(
    ("key", "options"),
    [
        ("multiplier", {"multiplier": 4.0}),
        ("multiplier", {"multiplier": 1.0}),
        ("multiplier", {"seats": 2, "multiplier": 2.5}),
        ("seats", {"seats": 1}),
        ("seats", {"seats": 21}),
        ("endowment", {"endowment": 0}),
    ],
)
def test_bad_options_are_named(key, options):
    refused(AT_ONCE, key, options)
