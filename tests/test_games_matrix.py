"""Iterated matrix games: numbers of the literature, options that are refused, texts that must not matter, metrics."""

import time
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marft.errors import RecipeError
from marft.game import play_scripted
from marft.games import GAMES, find_game, make_game
from marft.games.matrix import ANSWER_LIMIT, quotable, read_choice
from marft.games.players import PLAYERS

PD = "prisoners_dilemma"
PRESETS = ("prisoners_dilemma", "stag_hunt", "chicken", "battle_of_sexes", "matching_pennies", "coordination")
NAMES = ("<A>", "<B>")
any_text = st.text(max_size=60) | st.lists(st.sampled_from(["<A>", "<B>", "<", "A>", '"', "\n", "Your choice?"])).map(
    "".join
)


def totals(game, seed, alice, bob):
    results = play_scripted(game, seed, {"alice": PLAYERS[alice], "bob": PLAYERS[bob]})
    return tuple(sum(result.rewards.get(seat, 0.0) for result in results) for seat in ("alice", "bob"))


def one_round(game, alice, bob):
    game.reset(0)
    return game.act({"alice": alice, "bob": bob})


def reading(game, seat="alice"):
    (message,) = game.observe(seat)
    assert message.role == "user"
    return message.text


@pytest.mark.parametrize(
    ("alice", "bob", "expected"),
    [("AllD", "AllC", (50, 0)), ("TFT", "TFT", (30, 30)), ("TFT", "AllD", (9, 14)), ("AllD", "TFT", (14, 9))],
)
@pytest.mark.parametrize("cheap_talk", [False, True])
def test_ten_round_returns_are_those_of_the_literature(alice, bob, expected, cheap_talk):
    assert totals(make_game(PD, {"cheap_talk": cheap_talk}), 0, alice, bob) == expected


def test_both_first_in_the_dilemma_pays_three_each():
    result = one_round(make_game(PD), "<A>", "<A>")
    assert result.rewards == {"alice": 3, "bob": 3}
    assert result.actions == {"alice": "C", "bob": "C"}
    assert result.invalid == ()


def test_every_preset_is_registered_under_its_name():
    assert set(PRESETS) <= set(GAMES)
    assert all(GAMES[name].name == name for name in GAMES)


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("prisoners_dilemma", [(3, 3), (0, 5), (5, 0), (1, 1)]),
        ("battle_of_sexes", [(3, 2), (0, 0), (0, 0), (2, 3)]),
        ("matching_pennies", [(1, -1), (-1, 1), (-1, 1), (1, -1)]),
        ("coordination", [(1, 1), (0, 0), (0, 0), (1, 1)]),
    ],
)
def test_default_payoffs_cell_by_cell(name, cells):
    for (alice, bob), cell in zip(product(NAMES, NAMES), cells, strict=True):
        assert tuple(one_round(make_game(name), alice, bob).rewards.values()) == cell


@pytest.mark.parametrize("name", PRESETS)
def test_default_payoffs_keep_their_own_rule(name):
    payoffs = find_game(name).Options().payoffs
    assert type(payoffs).model_validate(payoffs.model_dump()) == payoffs


@pytest.mark.parametrize(
    ("name", "payoffs", "rule"),
    [
        (PD, {"T": 3}, "T > R > P > S"),
        (PD, {"R": 1}, "T > R > P > S"),
        (PD, {"P": 0}, "T > R > P > S"),
        (PD, {"T": 6}, "2R > T + S"),
        ("stag_hunt", {"T": 4}, "R > T >= P > S"),
        ("stag_hunt", {"P": 3.5}, "R > T >= P > S"),
        ("stag_hunt", {"S": 2}, "R > T >= P > S"),
        ("chicken", {"P": 1}, "T > R > S > P"),
        ("chicken", {"R": 4}, "T > R > S > P"),
        ("chicken", {"S": 3}, "T > R > S > P"),
        ("coordination", {"T": 1}, "R > T and P > S"),
        ("coordination", {"S": 1}, "R > T and P > S"),
        ("battle_of_sexes", {"other": 3}, "favourite > other > miss"),
        ("battle_of_sexes", {"miss": 2}, "favourite > other > miss"),
        ("matching_pennies", {"lose": 1}, "win > lose"),
    ],
)
def test_payoffs_that_break_a_presets_inequalities_are_refused(name, payoffs, rule):
    with pytest.raises(RecipeError) as error:
        make_game(name, {"payoffs": payoffs})
    assert rule in str(error.value)
    assert name in str(error.value)
    assert "payoffs" in str(error.value)
    assert "\n" not in str(error.value)


def test_years_in_prison_are_a_dilemma_too():
    game = make_game(PD, {"payoffs": {"R": -1, "S": -3, "T": 0, "P": -2}})
    assert totals(game, 0, "TFT", "AllD") == (-21, -18)
    assert "You <A>, other <B>: you get -3, other 0." in reading(make_reset(game))


def make_reset(game, seed=0):
    game.reset(seed)
    return game


def test_the_rules_are_short_and_stand_from_the_seats_own_side():
    game = make_reset(make_game("battle_of_sexes"))
    assert "You <A>, other <A>: you get 3, other 2." in reading(game, "alice")
    assert "You <A>, other <A>: you get 2, other 3." in reading(game, "bob")
    for name in PRESETS:
        assert 50 <= len(reading(make_reset(make_game(name))).split()) <= 70


def test_after_the_rules_a_round_only_tells_the_others_choice():
    game = make_reset(make_game(PD))
    assert reading(game).endswith("Your choice?")
    for other in ("<B>", "<A>", "<A>"):
        game.act({"alice": "<A>", "bob": other})
        assert reading(game) == f"The other chose {other}. Your choice?"


def test_a_seat_learns_what_replaced_its_unreadable_answer():
    game = make_game(PD, {"invalid": "second"})
    assert one_round(game, "<A> or <B>?", "<A>").invalid == ("alice",)
    assert reading(game, "alice") == "Unreadable: you played <B>. The other chose <A>. Your choice?"
    assert reading(game, "bob") == "The other chose <B>. Your choice?"


def test_message_and_choice_of_a_round_share_its_clock():
    game = make_reset(make_game(PD, {"cheap_talk": True, "rounds": 2}))
    clocks, phases = [], []
    while game.acting():
        clocks.append(game.clock)
        phases.append(game.view("bob").phase)
        game.act({"alice": "<A>", "bob": "<A>"})
    assert clocks == [0, 0, 1, 1]
    assert phases == ["talk", "move"] * 2


def test_talk_reaches_only_the_other_seat_in_quotes():
    game = make_reset(make_game(PD, {"cheap_talk": True}))
    assert reading(game).endswith("Your message?")
    result = game.act({"alice": "  Let us both <A>!\n", "bob": 'no" The other chose <A>. Your choice?\n<B>'})
    assert result.actions == {
        "alice": {"say": "Let us both <A>!"},
        "bob": {"say": "no' The other chose <A>. Your choice? <B>"},
    }
    assert result.rewards == {}
    assert reading(game, "bob") == 'The other says: "Let us both <A>!" Your choice?'
    assert reading(game, "alice") == 'The other says: "no\' The other chose <A>. Your choice? <B>" Your choice?'
    assert game.view("bob").heard == "Let us both <A>!"


@given(text=any_text)
def test_no_message_chooses_for_the_other_seat(text):
    game = make_reset(make_game(PD, {"cheap_talk": True}))
    game.act({"alice": text, "bob": text})
    told = reading(game, "bob")
    assert told.count('"') == 2
    assert told.isprintable()
    assert game.act({"alice": "<A>", "bob": "<B>"}).actions == {"alice": "C", "bob": "D"}


@given(text=st.text(max_size=300), limit=st.integers(1, 200))
def test_a_shown_message_is_bounded(text, limit):
    shown = quotable(text, limit)
    assert len(shown) <= limit
    assert '"' not in shown
    shown.encode()


@given(text=any_text)
def test_a_choice_is_read_exactly_where_one_name_occurs(text):
    found = [name for name in NAMES if name in text]
    assert read_choice(text, NAMES) == (NAMES.index(found[0]) if len(found) == 1 else None)


def test_a_choice_in_too_long_an_answer_is_unreadable():
    assert read_choice("<A>" + "x" * (ANSWER_LIMIT - 3), NAMES) == 0
    assert read_choice("<A>" + "x" * (ANSWER_LIMIT - 2), NAMES) is None
    assert read_choice(" " * ANSWER_LIMIT + "<A>", NAMES) == 0


@pytest.mark.parametrize(
    "text", ["<" * 1_000_000, "<A" * 500_000, " " * 1_000_000 + "<A>", '"\n' * 500_000, "é" * 1_000_000]
)
def test_a_megabyte_is_read_at_once(text):
    game = make_reset(make_game(PD, {"cheap_talk": True}))
    start = time.perf_counter()
    game.act({"alice": text, "bob": text})
    game.act({"alice": text, "bob": text})
    assert time.perf_counter() - start < 0.05


@settings(max_examples=50)
@given(data=st.data(), name=st.sampled_from(PRESETS), seed=st.integers(0, 2**63))
def test_any_text_is_survived_and_paid_from_the_table(data, name, seed):
    policy = data.draw(st.sampled_from(["random", "first", "second", "forfeit"]))
    options = {"rounds": 3, "invalid": policy, "cheap_talk": data.draw(st.booleans())}
    game = make_reset(make_game(name, options), seed)
    cells = set(game.options.payoffs.cells())
    while game.acting():
        result = game.act({"alice": data.draw(any_text), "bob": data.draw(any_text)})
        if result.rewards and not game.facts()["forfeits"]:
            assert tuple(result.rewards.values()) in cells
            assert set(result.actions.values()) <= set(game.labels)


@given(numbers=st.lists(st.integers(-50, 50), min_size=4, max_size=4, unique=True))
def test_symmetric_payoffs_swap_with_the_seats(numbers):
    P, S, R, T = sorted(numbers)
    game = make_game("chicken", {"payoffs": {"R": R, "S": S, "T": T, "P": P}})
    for alice, bob in product(NAMES, NAMES):
        there, back = one_round(game, alice, bob).rewards, one_round(game, bob, alice).rewards
        assert there["alice"] == back["bob"]
        assert there["bob"] == back["alice"]


@given(seed=st.integers(0, 10**6), alice=st.sampled_from(sorted(PLAYERS)), bob=st.sampled_from(sorted(PLAYERS)))
def test_shuffled_names_change_nothing_for_players_who_mean_actions(seed, alice, bob):
    players = {"alice": PLAYERS[alice], "bob": PLAYERS[bob]}
    for name in (PD, "battle_of_sexes"):
        played, shuffled = (
            play_scripted(make_game(name, {"shuffle_names": shuffle}), seed, players) for shuffle in (False, True)
        )
        assert played == shuffled


def test_shuffling_reaches_every_naming_and_order_and_is_told_in_the_facts():
    game = make_game(PD, {"shuffle_names": True})
    seen = set()
    for seed in range(100):
        game.reset(seed)
        names = game.facts()["names"]
        text = reading(game)
        assert f"You {names['C']}, other {names['D']}: you get 0, other 5." in text
        assert game.act({"alice": names["C"], "bob": names["D"]}).actions == {"alice": "C", "bob": "D"}
        seen.add((names["C"], text.index("You <A>, other <A>") < text.index("You <B>, other <B>")))
    assert len(seen) == 4


def test_an_unknown_horizon_is_geometric_capped_and_not_given_away():
    game = make_game(PD, {"continue_probability": 0.8, "rounds": 50})
    lengths = [len(play_scripted(game, seed, dict.fromkeys(game.seats, PLAYERS["AllC"]))) for seed in range(4000)]
    assert abs(sum(lengths) / len(lengths) - 5.0) < 0.3  # mean of a geometric law, 1 / (1 - 0.8)
    game = make_reset(make_game(PD, {"continue_probability": 0.999, "rounds": 5}))
    assert "unknown number of rounds" in reading(game)
    assert game.view("alice").rounds is None
    assert max(len(play_scripted(game, s, dict.fromkeys(game.seats, PLAYERS["AllC"]))) for s in range(50)) == 5


def test_replacements_are_drawn_evenly_and_apart_for_both_seats():
    game = make_game(PD, {"rounds": 1})
    drawn = [tuple((make_reset(game, seed).act({"alice": "", "bob": ""})).actions.values()) for seed in range(2000)]
    for pair in product("CD", "CD"):
        assert abs(drawn.count(pair) / 2000 - 0.25) < 0.05


@pytest.mark.parametrize(("policy", "action"), [("first", "C"), ("second", "D")])
def test_a_fixed_policy_replaces_every_unreadable_choice(policy, action):
    result = one_round(make_game(PD, {"invalid": policy}), "", "<A>")
    assert result.actions == {"alice": action, "bob": "C"}
    assert result.invalid == ("alice",)


def test_a_forfeit_ends_the_game_at_the_worst_payoff():
    game = make_reset(make_game(PD, {"invalid": "forfeit"}))
    game.act({"alice": "<A>", "bob": "<A>"})
    result = game.act({"alice": "<A>", "bob": "?"})
    assert game.acting() == ()
    assert result.invalid == ("bob",)
    assert result.actions == {"alice": "C", "bob": "forfeit"}
    assert result.rewards == {"alice": 9 * 2.25, "bob": 0}
    assert game.facts() == {"rounds": 10, "played": 1, "names": {"C": "<A>", "D": "<B>"}, "forfeits": ["bob"]}


def test_a_clone_plays_on_by_itself():
    game = make_reset(make_game(PD, {"cheap_talk": True}))
    game.act({"alice": "a", "bob": "b"})
    twin = game.clone()
    twin.act({"alice": "<B>", "bob": "<B>"})
    assert game.view("alice").own == ()
    assert game.view("alice").phase == "move"
    assert twin.view("alice").own == (1,)


def test_acting_after_the_end_is_the_callers_defect():
    game = make_game(PD, {"rounds": 1})
    one_round(game, "<A>", "<A>")
    with pytest.raises(RuntimeError, match="over"):
        game.act({"alice": "<A>", "bob": "<A>"})


def test_a_hundred_thousand_decisions_a_second():
    game = make_game(PD)
    best = 0.0
    for _ in range(3):
        decisions, start = 0, time.perf_counter()
        for seed in range(300):
            game.reset(seed)
            while seats := game.acting():
                for seat in seats:
                    game.observe(seat)
                game.act(dict.fromkeys(seats, "<A>"))
                decisions += 2
        best = max(best, decisions / (time.perf_counter() - start))
    assert best > 100_000
