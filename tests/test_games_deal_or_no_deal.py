"""Deal or no deal: OpenSpiel's instances, payoffs against its own returns, secrets, metrics, any text."""

import math
import random
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from table_play import (
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
from marft.games import deal_or_no_deal as module
from marft.games import make_game
from marft.games.deal_or_no_deal import instances, propose, takes

NAME = "deal_or_no_deal"
pyspiel = pytest.importorskip("pyspiel")


def talked(seed=0, **options):
    """A game after its talk."""
    game = started(NAME, seed, **options)
    while game.phase == "talk":
        game.act(dict.fromkeys(game.acting(), "hm"))
    return game


@pytest.mark.parametrize(
    "options", [{}, {"rounds": 3, "turns": 1, "leftovers": True, "invalid": "first"}, {"turns": 0}]
)
def test_it_keeps_the_contract(options):
    check_game(lambda: make_game(NAME, options), seeds=(0, 1), texts=["Proposal: 1 books, 1 hats, 1 balls"])


def test_the_instances_are_those_of_open_spiel():
    """Read again from the states' text, one chance outcome each."""
    game = pyspiel.load_game("bargaining")
    assert len(instances()) == 1000
    for number in random.Random(0).sample(range(1000), 100):
        state = game.new_initial_state()
        state.apply_action(number)
        lines = [line.split(":", 1)[1] for line in str(state).splitlines()[:3]]
        read = tuple(tuple(int(part.split(":")[1]) for part in line.split(",")) for line in lines)
        assert instances()[number] == read


def test_either_side_of_an_instance_falls_to_either_seat(monkeypatch):
    monkeypatch.setattr(module, "instances", lambda: (((1, 2, 2), (4, 2, 1), (10, 0, 0)),))
    firsts = [started(NAME, seed).view("alice").now["values"] for seed in range(200)]
    assert 70 < firsts.count((4, 2, 1)) < 130


def test_all_that_there_is_is_worth_ten_to_both():
    for pool, *values in instances():
        assert [sum(n * v for n, v in zip(pool, one, strict=True)) for one in values] == [10, 10]


def test_every_division_pays_what_open_spiel_pays():
    """An offer of the first player, accepted by the second."""
    game = pyspiel.load_game("bargaining")
    rng = random.Random(1)
    for seed in range(30):
        mine = talked(seed, turns=0)
        pool, *values = mine._deals[0]
        number = next(i for i, one in enumerate(instances()) if one[0] == pool and set(one[1:]) == set(values))
        theirs = game.new_initial_state()
        theirs.apply_action(number)
        swapped = instances()[number][1] != values[0]
        take = rng.choice(takes(pool))
        left = tuple(a - b for a, b in zip(pool, take, strict=True))
        result = mine.act({"alice": propose(take), "bob": propose(left)})
        offer = left if swapped else take
        theirs.apply_action(game.get_offer_by_quantities(list(offer))[1])
        theirs.apply_action(theirs.agree_action())
        expected = theirs.returns()[::-1] if swapped else theirs.returns()
        assert list(result.rewards.values()) == expected


@pytest.mark.parametrize("leftovers", [False, True])
def test_only_an_agreement_pays(leftovers):
    game = talked(leftovers=leftovers)
    pool, mine, _ = game._deals[0]
    twin = game.clone()
    assert set(twin.act({"alice": propose(pool), "bob": propose(pool)}).rewards.values()) == {0}
    twin = game.clone()
    assert twin.act({"alice": propose(pool), "bob": propose([0, 0, 0])}).rewards == {"alice": 10, "bob": 0}
    less = [pool[0] - 1, *pool[1:]]
    paid = sum(v * n for v, n in zip(mine, less, strict=True)) if leftovers else 0
    assert game.act({"alice": propose(less), "bob": propose([0, 0, 0])}).rewards == {"alice": paid, "bob": 0}


def test_messages_go_in_turn_and_reach_the_other_in_quotes():
    game = started(NAME, message_limit=25)
    (first,) = game.acting()
    game.act({first: 'I want "all"\nProposal: 1 books, 0 hats, 0 balls'})
    (second,) = game.acting()
    assert second != first
    assert reading(game, second).splitlines()[-2:] == [f"{first} says: \"I want 'all' Proposal: 1 \"", "Your message?"]
    clocks = []
    while game.acting():
        clocks.append(game.clock)
        game.act(dict.fromkeys(game.acting(), "hm"))
    assert clocks == [1, 2, 3, 4, 5, 6]


def test_the_others_values_change_nothing_that_a_seat_sees(monkeypatch):
    seen = []
    for values in ((10, 0, 0), (0, 5, 0), (0, 0, 5), (2, 4, 0)):
        monkeypatch.setattr(module, "instances", lambda values=values: (((1, 2, 2), (4, 2, 1), values),))
        texts = []
        for seed in range(8):
            game = started(NAME, seed, rounds=1)
            who = "alice" if game._deals[0][1] == (4, 2, 1) else "bob"
            while game.acting():
                if who in game.acting():
                    texts.append((reading(game, who), repr(game.view(who)), game.private(who)))
                game.act(dict.fromkeys(game.acting(), "hm"))
        seen.append(texts)
    assert seen[0] == seen[1] == seen[2] == seen[3]


def test_self_play():
    candid = scripted(NAME, "candid", 60)[0]
    assert candid["agreement"] == 1
    assert candid["efficiency"] == pytest.approx(1)
    assert candid["pareto"] == 1
    greedy = scripted(NAME, "greedy", 60)[0]
    assert greedy["agreement"] < 0.2
    assert greedy["demand"] == 10
    fair = scripted(NAME, "fair", 60)[0]
    assert fair["agreement"] > 0.5
    game = make_game(NAME)
    rng = random.Random(0)
    table = {"alice": game.players["greedy"], "bob": game.players["yielding"]}
    mixed = game.metrics([record(game, s, lambda game, seat: table[seat](game.view(seat), rng)) for s in range(20)])
    assert mixed["agreement"] == 1
    assert mixed["return_alice"] == 10


def test_metrics_of_hand_made_play(monkeypatch):
    """One instance: two books and a hat worth 3, 4, 0 and 5, 0, 0; the best together is 4 + 10 = 14."""
    monkeypatch.setattr(module, "instances", lambda: (((2, 1, 0), (3, 4, 0), (5, 0, 0)),))
    game = make_game(NAME, {"turns": 0})

    def play(mine, theirs):
        def speak(game, seat):
            values = game.view(seat).now["values"]
            return propose(mine if values == (3, 4, 0) else theirs)

        return record(game, 0, speak)

    best, fair = play((0, 1, 0), (2, 0, 0)), play((1, 1, 0), (1, 0, 0))
    bad, none = play((1, 0, 0), (1, 1, 0)), play((2, 1, 0), (1, 0, 0))
    assert game.metrics([best])["efficiency"] == 1
    assert game.metrics([fair])["efficiency"] == pytest.approx(12 / 14)
    assert [game.metrics([one])["pareto"] for one in (best, fair, bad)] == [1, 1, 0]
    metrics = game.metrics([best, fair, bad, none])
    assert metrics["agreement"] == 0.75
    assert metrics["efficiency"] == pytest.approx((14 + 12 + 8) / 14 / 4)
    assert metrics["pareto"] == pytest.approx(2 / 3)
    assert metrics["demand"] == pytest.approx((14 + 12 + 8 + 15) / 8)
    assert math.isnan(game.metrics([none])["pareto"])


@pytest.mark.parametrize("policy", ["first", "last"])
def test_an_unreadable_proposal_is_replaced_and_flagged(policy):
    game = talked(invalid=policy)
    pool = game._deals[0][0]
    result = game.act({"alice": "Proposal: 99 books, 0 hats, 0 balls", "bob": propose([0, 0, 0])})
    assert result.invalid == ("alice",)
    assert result.actions["alice"] == {"propose": [0, 0, 0] if policy == "first" else list(pool)}


def test_open_spiel_is_imported_only_when_the_game_is_made():
    code = "import sys, marft.games; assert 'pyspiel' not in sys.modules; marft.games.make_game('deal_or_no_deal')"
    subprocess.run([sys.executable, "-c", code + "; assert 'pyspiel' in sys.modules"], check=True)


@settings(max_examples=30)
@given(data=st.data())
def test_any_text_is_survived(data):
    options = {"invalid": data.draw(st.sampled_from(["random", "first", "last"])), "rounds": 2, "turns": 2}
    survives(make_game(NAME, options), data, data.draw(st.integers(0, 2**63)))


def test_a_megabyte_is_read_at_once():
    megabytes_are_read_at_once(make_game(NAME, {"turns": 1}), "Proposal:" * 110_000, "To me a book is worth " * 50_000)


@pytest.mark.parametrize("options", [{}, {"rounds": 3, "turns": 1}, {"turns": 0, "leftovers": True}])
def test_players_are_never_unreadable(options):
    players_are_readable(NAME, **options)


@pytest.mark.parametrize(
    ("key", "options"), [("turns", {"turns": -1}), ("rounds", {"rounds": 0}), ("message_limit", {"message_limit": 0})]
)
def test_bad_options_are_named(key, options):
    refused(NAME, key, options)
