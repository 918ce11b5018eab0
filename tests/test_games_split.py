"""Split without words: the reference's payoffs and means, deals, metrics, any text."""

import json
from itertools import product
from pathlib import Path

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
from marft.games import make_game
from marft.games.split import SIDES, propose

NAME = "split"
CASES = json.loads((Path(__file__).parent / "vectors" / "games.json").read_text())["cases"]
(CASE,) = (case for case in CASES if case["title"].startswith("Split no-comm payoff"))
(FIGURES,) = (case for case in CASES if case["title"].startswith("Split no-comm 10-1-ties"))
ITEMS = ("hats", "books", "balls")


def values(game):
    return [list(game.view(seat).now["values"]) for seat in game.seats]


def dealt(alice, bob, **options):
    """A game whose first round deals these values."""
    for seed in range(200):
        game = started(NAME, seed, **options)
        if values(game) == [alice, bob]:
            return game
    raise AssertionError("no seed dealt that")


@pytest.mark.parametrize("options", [{}, {"rounds": 2, "quantity": 3, "invalid": "last"}])
def test_it_keeps_the_contract(options):
    check_game(lambda: make_game(NAME, options), seeds=(0,), texts=["Proposal: 1 hats, 2 books, 3 balls"])


def test_payoffs_of_the_reference():
    wanted = [[CASE["values"][seat][item] for item in ITEMS] for seat in "AB"]
    game = dealt(*wanted)
    result = game.act(
        {
            seat: propose([CASE["claims"][who][item] for item in ITEMS])
            for seat, who in zip(game.seats, "AB", strict=True)
        }
    )
    assert list(result.rewards.values()) == pytest.approx([CASE["rewards"]["A"], CASE["rewards"]["B"]], rel=1e-12)


def test_the_deals_are_the_twelve_admissible_pairs_and_alike_often():
    """Counted anew: all pairs of values 1 or 10 of equal sum that are not the same."""
    admissible = {
        (a, b) for a in product((1, 10), repeat=3) for b in product((1, 10), repeat=3) if a != b and sum(a) == sum(b)
    }
    assert len(admissible) == len(SIDES) == 12
    seen = []
    for seed in range(100):
        seen += [tuple(map(tuple, deal)) for deal in record(make_game(NAME), seed, "equal").facts["values"]]
    assert set(seen) == admissible
    assert all(abs(seen.count(deal) / 1000 - 1 / 12) < 0.04 for deal in admissible)


@pytest.mark.parametrize(
    ("player", "mean"), [("greedy", FIGURES["both_claim_all"]), ("welfare", FIGURES["welfare_max"]), ("equal", 82.5)]
)
def test_mean_payoffs_over_all_deals_are_those_of_the_reference(player, mean):
    means = {}
    for seed in range(200):
        game = started(NAME, seed, rounds=1)
        key = str(values(game))
        texts = {seat: game.players[player](game.view(seat), None) for seat in game.seats}
        means[key] = sum(game.act(texts).rewards.values()) / 2
    assert len(means) == 12
    assert sum(means.values()) / 12 == pytest.approx(mean, abs=1e-9)


def test_self_play_efficiencies():
    assert scripted(NAME, "welfare", 5)[0]["split_efficiency"] == pytest.approx(1)
    assert scripted(NAME, "tit_for_tat", 5)[0]["split_efficiency"] == pytest.approx(1)
    greedy = scripted(NAME, "greedy", 400)[0]
    assert greedy["welfare"] / 2 == pytest.approx(82.5, abs=2)
    assert greedy["claim_more"] == greedy["claim_less"] == greedy["claim_same"] == 10


def test_both_see_both_values_and_the_last_claims():
    game = dealt([10, 1, 10], [1, 10, 10])
    assert "Worth to you: hat 10, book 1, ball 10. Worth to bob: hat 1, book 10, ball 10." in reading(game, "alice")
    assert "Worth to you: hat 1, book 10, ball 10. Worth to alice: hat 10, book 1, ball 10." in reading(game, "bob")
    game.act({"alice": propose([10, 0, 5]), "bob": propose([0, 10, 5])})
    assert reading(game, "bob").startswith("alice claimed 10 hats, 0 books, 5 balls; you earned 150.\nRound 2 of 10.")


def test_metrics_of_hand_made_play():
    def speak(game, seat):
        own, other = game.view(seat).now["values"], game.view(seat).now["others"]
        return propose([8 if a > b else 2 if a < b else 4 for a, b in zip(own, other, strict=True)])

    episode = record(make_game(NAME, {"rounds": 4}), 0, speak)
    metrics = make_game(NAME).metrics([episode], ["bob"])
    assert (metrics["claim_more"], metrics["claim_less"], metrics["claim_same"]) == (8, 2, 4)
    assert metrics["bob/claim_more"] == 8
    assert metrics["invalid"] == 0
    best = sum(10 * max(pair) for deal in episode.facts["values"] for pair in zip(*deal, strict=True))
    assert metrics["split_efficiency"] == pytest.approx(sum(episode.returns().values()) / best)


@pytest.mark.parametrize(("policy", "expected"), [("first", [0, 0, 0]), ("last", [10, 10, 10])])
def test_an_unreadable_proposal_is_replaced_and_told(policy, expected):
    game = started(NAME, invalid=policy)
    result = game.act({"alice": "all hats", "bob": propose([1, 2, 3])})
    assert result.invalid == ("alice",)
    assert result.actions == {"alice": {"claim": expected}, "bob": {"claim": [1, 2, 3]}}
    n = expected[0]
    assert reading(game, "alice").startswith(f"Unreadable: {n} hats, {n} books, {n} balls was played for you.")


def test_random_replacements_reach_every_number():
    drawn = {tuple(started(NAME, seed).act({"alice": "", "bob": ""}).actions["bob"]["claim"]) for seed in range(300)}
    assert all({claim[i] for claim in drawn} == set(range(11)) for i in range(3))


@settings(max_examples=40)
@given(data=st.data())
def test_any_text_is_survived(data):
    policy = data.draw(st.sampled_from(["random", "first", "last"]))
    survives(make_game(NAME, {"rounds": 2, "invalid": policy}), data, data.draw(st.integers(0, 2**63)))


def test_a_megabyte_is_read_at_once():
    megabytes_are_read_at_once(make_game(NAME), "Proposal:" * 110_000, "Proposal: " + "1 hats, " * 120_000)


@pytest.mark.parametrize("options", [{}, {"quantity": 3}])
def test_players_are_never_unreadable(options):
    players_are_readable(NAME, **options)


@pytest.mark.parametrize(
    ("key", "options"),
    [("high_value", {"high_value": 1.0}), ("quantity", {"quantity": 0}), ("invalid", {"invalid": "forfeit"})],
)
def test_bad_options_are_named(key, options):
    refused(NAME, key, options)
