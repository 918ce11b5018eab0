"""Battle royale and pirates: turns, hits, votes, backward induction by a second way, scores by hand."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from table_play import do, record, scripted, started

from marft.games import make_game
from marft.games.pirates import best_plan, best_vote, read_plan


def test_hit_rates_run_from_35_to_80_weakest_first():
    game = started("battle_royale")
    assert list(game.rates.values()) == list(range(35, 81, 5))
    assert game.acting() == ("p1",)
    assert list(make_game("battle_royale", {"seats": 2}).rates.values()) == [35, 80]


def test_shots_go_round_among_those_left_and_the_last_wins():
    game = started("battle_royale", seats=3, weakest=100, strongest=100)
    assert do(game, "p3").rewards == {}
    assert game.acting() == ("p2",)
    result = do(game, "p1")
    assert result.rewards == {"p2": 1}
    assert game.acting() == ()
    assert game.facts() == {"rounds": 20, "played": 1, "strongest": ["p3", "p1"], "living": ["p2"]}


def test_all_left_after_the_last_round_share_the_prize():
    metrics, (episode,) = scripted("battle_royale", "peaceful", rounds=2)
    assert episode.returns() == pytest.approx(dict.fromkeys(episode.seats, 0.1))
    assert metrics["shots"] == 20
    assert metrics["score"] == 0
    assert metrics["missed_on_purpose"] == 1
    assert metrics["survivors"] == 10
    assert metrics["welfare"] == pytest.approx(1 / 2)


def test_shots_hit_at_their_rates():
    hits = {"p1": [], "p2": []}
    for seed in range(600):
        game = started("battle_royale", seed, seats=3, weakest=35, strongest=80)
        hits["p1"].append(do(game, "p3").actions["p1"]["hit"])
        hits["p2"].append(do(game, "p1").actions["p2"]["hit"])
    assert abs(sum(hits["p1"]) / 600 - 0.35) < 0.06
    assert abs(sum(hits["p2"]) / 600 - 0.58) < 0.06


def test_the_score_counts_shots_at_the_strongest_other():
    assert scripted("battle_royale", "strongest", 3)[0]["score"] == 100
    game = make_game("battle_royale", {"seats": 3, "rounds": 1, "weakest": 1, "strongest": 1})
    shots = {"p1": "p3", "p2": "p1", "p3": "p2"}  # p3's strongest other is p2
    episode = record(game, 1, lambda game, seat: f"<answer>{shots[seat]}</answer>")
    assert len(episode.facts["living"]) == 3
    metrics = game.metrics([episode])
    assert metrics["score"] == pytest.approx(200 / 3)
    assert game.metrics([episode], ["p2"])["score"] == 0


@pytest.mark.parametrize("text", ["p1", "p9", "P2", "p2 p3", "", "١"])
@pytest.mark.parametrize(("policy", "target"), [("first", "miss"), ("last", "p3")])
def test_a_shot_at_oneself_or_nobody_known_is_replaced(text, policy, target):
    game = started("battle_royale", seats=3, invalid=policy)
    result = do(game, text)
    assert result.invalid == ("p1",)
    assert result.actions["p1"]["shoot"] == target


def induction(living, gold):
    """The best plan by backward induction: buy the votes that cost least, one coin over what they get without."""
    plan = [gold]
    for number in range(2, living + 1):
        needed = (number + 1) // 2 - 1
        cheapest = sorted(range(number - 1), key=lambda i: plan[i])[:needed]
        bribes = [plan[i] + 1 if i in cheapest else 0 for i in range(number - 1)]
        plan = [gold - sum(bribes), *bribes]
    return plan


@given(living=st.integers(1, 20), gold=st.integers(20, 500))
def test_the_best_plan_is_that_of_backward_induction(living, gold):
    assert best_plan(living, gold) == induction(living, gold)


def test_the_best_plan_of_five_pirates_is_the_textbooks():
    assert best_plan(5, 100) == [98, 0, 1, 0, 1]


def test_best_votes_want_more_than_there_is_without_the_plan():
    assert [best_vote(5, 100, place, share) for place, share in ((1, 99), (1, 100), (2, 0), (2, 1))] == [
        "reject",
        "accept",
        "reject",
        "accept",
    ]


def test_the_best_carry_the_first_plan_and_score_a_hundred():
    for seats in (2, 3, 5, 10, 20):
        metrics, (episode,) = scripted("pirates", "best", seats=seats)
        assert list(episode.returns().values()) == induction(seats, 100)
        assert metrics["score"] == 100
        assert metrics["accepted"] == 1


def test_a_refused_planner_goes_overboard_and_the_next_one_plans():
    game = started("pirates", seats=4)
    do(game, "97 1 1 1")
    assert game.acting() == ("p2", "p3", "p4")
    assert do(game, "reject").rewards == {}
    assert game.acting() == ("p2",)
    assert game.clock == 1
    do(game, "40 30 30")
    result = do(game, {"p3": "accept", "p4": "reject"})
    assert result.rewards == {"p2": 40, "p3": 30, "p4": 30}
    assert game.facts()["accepted"] == [False, True]


def test_half_of_all_voices_is_enough_and_two_need_no_other():
    game = started("pirates", seats=2)
    do(game, "100 0")
    assert do(game, "reject").rewards == {"p1": 100, "p2": 0}
    game = started("pirates", seats=3)
    do(game, "100 0 0")
    do(game, "reject")
    do(game, "0 100")
    assert do(game, "reject").rewards == {"p2": 0, "p3": 100}


def test_the_order_moves_up_with_each_game():
    game = started("pirates", seats=3, rounds=3)
    planners = []
    while game.acting():
        planners += game.acting()
        do(game, "98 1 1")
        do(game, "accept")
    assert planners == ["p1", "p2", "p3"]
    assert game.facts()["played"] == 3


def test_pirates_score_by_hand():
    """The plan 50 50 0 of three is 100 away from 99 0 1 in all; p2's and p3's best votes are reject, twice."""
    game = make_game("pirates", {"seats": 3})
    speak = {"plan": "50 50 0", "vote": "accept"}
    metrics = game.metrics([record(game, 0, lambda game, seat: f"<answer>{speak[game.phase]}</answer>")])
    assert metrics["plan_match"] == pytest.approx(0.5)
    assert metrics["vote_accuracy"] == 0
    assert metrics["score"] == pytest.approx(25)
    alone = game.metrics([record(game, 0, "best")], ["p2"])
    assert math.isnan(alone["plan_match"])
    assert alone["score"] == 100


@pytest.mark.parametrize(
    ("text", "plan"),
    [
        ("60 30 10", (60, 30, 10)),
        ("60, 30, 10", (60, 30, 10)),
        ("100 0 0", (100, 0, 0)),
        ("60 30 11", None),
        ("60 40", None),
        ("110 -10 0", None),
        ("60 30 ١٠", None),
        ("60.0 30 10", None),
        ("", None),
    ],
)
def test_plans_are_read_as_written(text, plan):
    assert read_plan(f"<answer>{text}</answer>", 3, 100) == plan


@pytest.mark.parametrize(("policy", "plan"), [("first", [100, 0, 0]), ("last", [0, 0, 100])])
def test_an_unreadable_plan_gives_all_to_one(policy, plan):
    game = started("pirates", seats=3, invalid=policy)
    result = do(game, "all for me")
    assert result.actions == {"p1": {"plan": plan}}
    assert result.invalid == ("p1",)
