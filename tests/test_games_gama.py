"""The eight games of GAMA-Bench: payoffs and scores by hand, backward induction, secrets, metrics, any text."""

import math
import random

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

AT_ONCE = (
    "guess_two_thirds",
    "el_farol",
    "divide_dollar",
    "public_goods_tokens",
    "diners_dilemma",
    "sealed_bid_auction",
)
NAMES = (*AT_ONCE, "battle_royale", "pirates")


def paid(name, *moves, seed=0, **options):
    game = started(name, seed, seats=len(moves), **options)
    return list(do(game, dict(zip(game.seats, moves, strict=True))).rewards.values())


def scored(name, plan, seats=None, **options):
    """Metrics of play by `plan`: per round a move per seat."""
    game = make_game(name, {"seats": len(plan[0]), "rounds": len(plan), **options})
    speak = lambda game, seat: f"<answer>{plan[game.clock][game.seats.index(seat)]}</answer>"  # noqa: E731
    return game.metrics([record(game, 0, speak), record(game, 0, speak, status="failed")], seats)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("options", [{"seats": 4, "rounds": 2}, {"seats": 2, "rounds": 3, "invalid": "last"}])
def test_they_keep_the_contract(name, options):
    check_game(lambda: make_game(name, options), seeds=(0,), texts=["<answer>7</answer>", "<answer>p2</answer>"])


@pytest.mark.parametrize("name", NAMES)
def test_ten_play_twenty_rounds_by_default(name):
    game = make_game(name)
    assert len(game.seats) == 10
    assert game.options.rounds == (1 if name == "pirates" else 20)


def test_closest_to_two_thirds_of_the_mean_wins_and_ties_share():
    assert paid("guess_two_thirds", 0, 30, 60) == [0, 1, 0]  # the target is 20
    assert paid("guess_two_thirds", 10, 50, 30) == [0.5, 0, 0.5]
    assert paid("guess_two_thirds", 5, 5) == [0.5, 0.5]
    assert paid("guess_two_thirds", 100, 0, ratio=0.5) == [0, 1]


def test_going_out_pays_if_at_most_six_in_ten_go():
    assert paid("el_farol", *["go"] * 6, *["stay"] * 4) == [10] * 6 + [5] * 4
    assert paid("el_farol", *["go"] * 7, *["stay"] * 3) == [0] * 7 + [5] * 3
    assert paid("el_farol", *["go"] * 3, *["stay"] * 2) == [10] * 3 + [5] * 2
    assert paid("el_farol", *["stay"] * 4) == [5] * 4


def test_bids_are_paid_if_there_is_enough():
    assert paid("divide_dollar", 50, 30, 20) == [50, 30, 20]
    assert paid("divide_dollar", 50, 30, 21) == [0, 0, 0]


def test_tokens_in_the_pot_are_doubled_and_shared():
    assert paid("public_goods_tokens", *[20] * 10) == [40] * 10
    assert paid("public_goods_tokens", *[0] * 10) == [20] * 10
    assert paid("public_goods_tokens", 0, *[20] * 9) == [56] + [36] * 9


def test_dinner_is_worth_its_dish_less_the_mean_price():
    assert paid("diners_dilemma", *["cheap"] * 10) == [5] * 10
    assert paid("diners_dilemma", *["costly"] * 10) == [0] * 10
    assert paid("diners_dilemma", "costly", *["cheap"] * 9) == [9] + [4] * 9


def test_the_highest_bid_wins_its_value_less_the_bid():
    game = started("sealed_bid_auction", 3, seats=3)
    values = game._values[0]
    assert do(game, {"p1": 10, "p2": 30, "p3": 20}).rewards == {"p1": 0, "p2": values[1] - 30, "p3": 0}
    assert reading(game, "p1").startswith("p2 won at 30. You earned 0.\nRound 2 of 20: the item is worth ")


def test_equal_bids_are_decided_by_lot():
    winners = []
    for seed in range(200):
        game = started("sealed_bid_auction", seed, seats=2)
        do(game, 7)
        winners.append(reading(game, "p1").split()[0])
    assert set(winners) == {"p1", "p2"}
    assert 70 < winners.count("p1") < 130


def test_values_are_drawn_from_0_to_200():
    drawn = [value for seed in range(20) for values in started("sealed_bid_auction", seed)._values for value in values]
    assert (min(drawn), max(drawn)) == (0, 200)
    assert abs(sum(drawn) / len(drawn) - 100) < 4


@pytest.mark.parametrize(
    ("name", "plan", "score"),
    [
        ("guess_two_thirds", [[0, 0], [0, 0]], 100),
        ("guess_two_thirds", [[100, 50], [30, 20]], 50),
        ("el_farol", [["go"] * 6 + ["stay"] * 4], 100),
        ("el_farol", [["stay"] * 5], 0),
        ("el_farol", [["go"] * 5, ["go"] * 3 + ["stay"] * 2], 100 * (1 - 0.2 / 0.6)),
        ("divide_dollar", [[20] * 5], 100),
        ("divide_dollar", [[10, 30, 20, 20, 20]], 80),
        ("divide_dollar", [[100] * 5], 0),
        ("public_goods_tokens", [[0, 0, 0]], 100),
        ("public_goods_tokens", [[20, 10, 0], [10, 10, 10]], 50),
        ("diners_dilemma", [["cheap"] * 4], 0),
        ("diners_dilemma", [["cheap", "costly"], ["costly", "costly"]], 75),
    ],
)
def test_scores_by_hand(name, plan, score):
    assert scored(name, plan)["score"] == pytest.approx(score)


def test_the_auctions_score_is_the_mean_share_kept_under_the_value():
    game = make_game("sealed_bid_auction", {"seats": 4})
    episode = record(game, 0, "random")
    kept = []
    for turn in episode.turns:
        value = episode.facts["values"][turn.step][game.seats.index(turn.seat)]
        if value:
            kept.append(max(0, (value - turn.action["move"]) / value))
    assert game.metrics([episode])["score"] == pytest.approx(100 * sum(kept) / len(kept))
    assert scripted("sealed_bid_auction", "truthful")[0]["score"] == 0
    assert scripted("sealed_bid_auction", "eager")[0]["score"] < 10
    assert scripted("sealed_bid_auction", "half")[0]["score"] == pytest.approx(50, abs=2)


def test_selfish_scores_stand_beside_their_welfare():
    selfish, kind = scripted("public_goods_tokens", "none")[0], scripted("public_goods_tokens", "all")[0]
    assert (selfish["score"], selfish["welfare"]) == (100, 200)
    assert (kind["score"], kind["welfare"]) == (0, 400)
    selfish, kind = scripted("diners_dilemma", "costly")[0], scripted("diners_dilemma", "cheap")[0]
    assert (selfish["score"], selfish["welfare"]) == (100, 0)
    assert (kind["score"], kind["welfare"]) == (0, 50)


def test_metrics_look_at_the_seats_asked_for():
    plan = [[0, 20], [10, 20]]
    assert scored("public_goods_tokens", plan, ["p1"])["score"] == 75
    metrics = scored("public_goods_tokens", plan, ["p2"])
    assert metrics["score"] == 0
    assert metrics["p2/contribution_share"] == metrics["contribution_share"] == 1
    assert "p1/contribution_share" not in metrics


@pytest.mark.parametrize("name", NAMES)
def test_nothing_seen_is_nan(name):
    game = make_game(name, {"seats": 3, "rounds": 1})
    failed = record(game, 0, "random", status="failed")
    assert all(math.isnan(value) for value in game.metrics([failed]).values())
    assert set(game.metrics([failed])) == set(game.metrics([record(game, 0, "random")]))
    with pytest.raises(ValueError, match="no seat 'bob'"):
        game.metrics([failed], ["bob"])


def test_what_an_item_is_worth_to_others_and_what_they_bid_low_is_never_seen():
    seen = []
    for seed in range(3):
        game = started("sealed_bid_auction", seed, seats=3, rounds=3)
        game._values = ((50, 10 * seed, seed), (60, 5 + seed, 9), (70, 8, 7 + seed))
        game._news["p1"] = ()
        texts = []
        for bid in (20, 30, 40):
            texts.append((reading(game, "p1"), repr(game.view("p1")), game.private("p1")) if bid > 20 else None)
            do(game, {"p1": 0, "p2": bid, "p3": seed})
        seen.append(texts)
    assert seen[0] == seen[1] == seen[2]


@pytest.mark.parametrize(("policy", "place"), [("first", 0), ("last", -1)])
@pytest.mark.parametrize("name", AT_ONCE)
def test_an_unreadable_choice_is_replaced_and_told(name, policy, place):
    game = started(name, seats=2, rounds=2, invalid=policy)
    move = game.view("p1").choices[place]
    result = game.act({"p1": "5", "p2": "<answer>1e309</answer>"})
    assert result.invalid == game.seats
    assert result.actions == {seat: {"move": move} for seat in game.seats}
    assert reading(game, "p1").startswith(f"Unreadable: {move} was played for you.")


@settings(max_examples=40)
@given(data=st.data(), name=st.sampled_from(NAMES))
def test_any_text_is_survived(data, name):
    policy = data.draw(st.sampled_from(["random", "first", "last"]))
    survives(make_game(name, {"rounds": 2, "seats": 3, "invalid": policy}), data, data.draw(st.integers(0, 2**63)))


@pytest.mark.parametrize("name", NAMES)
def test_a_megabyte_is_read_at_once(name):
    megabytes_are_read_at_once(make_game(name, {"seats": 3}), "<answer>" + "1 " * 500_000 + "</answer>")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("options", [{"rounds": 3}, {"seats": 20, "rounds": 2}, {"seats": 2, "rounds": 2}])
def test_players_are_never_unreadable(name, options):
    players_are_readable(name, **options)


@pytest.mark.parametrize("name", NAMES)
def test_players_differ_in_kind(name):
    """A mixture to warm up a model on: no single answer is given by all, at several places of an episode."""
    game = started(name, 1)
    (seat, *_) = game.acting()
    said = {player(game.view(seat), random.Random(0)) for player in game.players.values()}
    assert len(said) > 1


@pytest.mark.parametrize(
    ("name", "key", "options"),
    [
        *((name, "seats", {"seats": 21}) for name in NAMES),
        *((name, "seats", {"seats": 1}) for name in NAMES),
        ("guess_two_thirds", "ratio", {"ratio": 1.0}),
        ("el_farol", "ratio", {"ratio": 0.0}),
        ("divide_dollar", "gold", {"gold": 0}),
        ("public_goods_tokens", "multiplier", {"multiplier": 1.0}),
        ("sealed_bid_auction", "most", {"most": 0}),
        ("battle_royale", "weakest", {"weakest": 90}),
        ("pirates", "gold", {"gold": 9}),
    ],
)
def test_bad_options_are_named(name, key, options):
    refused(name, key, options)
