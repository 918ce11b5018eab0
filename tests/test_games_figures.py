"""Figures from outside: the reference cases of vectors/games.json that no game's own test has, and the defaults."""

import json
from itertools import permutations
from pathlib import Path

import pytest
from table_play import record, started

pytest.importorskip("pyspiel")

from marft.errors import RecipeError
from marft.games import make_game
from marft.games.openspiel import answer
from marft.games.trust_and_split import claim, say

CASES = json.loads((Path(__file__).parent / "vectors" / "games.json").read_text())["cases"]
ELSEWHERE = {
    "TAS payoff 10 coins": "test_games_trust_and_split.py",
    "Split no-comm payoff 3 items x10": "test_games_split.py",
    "Split no-comm 10-1-ties": "test_games_split.py",
}
"""Beginnings of titles of cases that the game's own test reads from the same file."""
(DILEMMA,) = (case for case in CASES if case["title"] == "IPD payoff")
(HANDS,) = (case for case in CASES if case["title"].startswith("TAS-RPS"))
(KUHN,) = (case for case in CASES if case["title"].startswith("Kuhn"))
CARDS = "JQK"
BETS = {"check": "pass", "fold": "pass", "bet": "bet", "call": "bet"}


def test_every_case_of_the_file_is_in_some_test():
    here = [case["title"] for case in (DILEMMA, HANDS, KUHN)]
    left = [case["title"] for case in CASES if case["title"] not in here]
    assert left
    assert all(any(title.startswith(begin) for begin in ELSEWHERE) for title in left)
    for begin, name in ELSEWHERE.items():
        source = (Path(__file__).parent / name).read_text()
        assert "games.json" in source
        assert begin.partition(" ")[0] in source


def test_the_dilemma_pays_what_the_reference_pays():
    game = started("prisoners_dilemma", rounds=1)
    result = game.act(dict(zip(game.seats, DILEMMA["actions"], strict=True)))
    assert [result.rewards[seat] for seat in game.seats] == DILEMMA["rewards"]


def test_joint_rewards_by_hand_are_those_of_the_reference():
    """The winning hand claims all and the other nothing, or all too, in which case honesty is worth nothing."""
    sums = {}
    for losing in (0, 10):
        game = started("trust_and_split", rounds=1)
        for _ in range(2):
            game.act(dict.fromkeys(game.acting(), say("I tell my hand.")))
        twin = game.clone()
        twin.act(dict.fromkeys(twin.seats, claim(0)))
        upper = twin.facts()["upper"][0]
        rewards = game.act({seat: claim(10 if seat == upper else losing) for seat in game.seats}).rewards
        sums[losing] = sum(rewards.values())
    assert sums[0] == HANDS["loser0_winner10_max_sum"] == 2 * HANDS["efficient_winner10_loser0"]["mean_per_agent"]
    assert HANDS["winner_honest_10_loser_10_greedy"] == "same as both greedy"
    assert sums[10] == 2 * HANDS["both_greedy_claim10"]["mean_per_agent"]


def kuhn(cards, line):
    """alice's return where she and bob hold these cards and say this line, through text."""
    game = make_game("kuhn_poker")
    game.deal([CARDS.index(card) for card in cards])
    earned = 0.0
    for word in line.split("-"):
        (seat,) = game.acting()
        result = game.act({seat: answer(BETS[word])})
        assert result.invalid == ()
        earned += result.rewards.get("alice", 0.0)
    assert game.acting() == ()
    return earned


def test_kuhns_table_has_every_deal_and_line():
    lines = ("check-check", "bet-fold", "check-bet-fold", "bet-call", "check-bet-call")
    assert set(KUHN["table"]) == {f"{a}{b}:{line}" for a, b in permutations(CARDS, 2) for line in lines}


@pytest.mark.parametrize("line", KUHN["table"])
def test_kuhns_table_is_paid_through_text(line):
    cards, _, words = line.partition(":")
    assert kuhn(cards, words) == KUHN["table"][line]


@pytest.mark.parametrize("jack", [0.0, 1 / 6, 1 / 3])
def test_kuhns_value_is_what_equilibrium_play_earns_through_text(jack):
    """Kuhn 1950: the first bets jack a, king 3a, calls with the queen a + 1/3; the second bets after a check with the
    king and a third of jacks, and calls with the king and a third of queens."""
    opens = {"J": jack, "Q": 0.0, "K": 3 * jack}
    calls = {"J": 0.0, "Q": jack + 1 / 3, "K": 1.0}
    bets, answers = {"J": 1 / 3, "Q": 0.0, "K": 1.0}, {"J": 0.0, "Q": 1 / 3, "K": 1.0}
    value = 0.0
    for first, second in permutations(CARDS, 2):
        chances = {
            "bet-call": opens[first] * answers[second],
            "bet-fold": opens[first] * (1 - answers[second]),
            "check-check": (1 - opens[first]) * (1 - bets[second]),
            "check-bet-call": (1 - opens[first]) * bets[second] * calls[first],
            "check-bet-fold": (1 - opens[first]) * bets[second] * (1 - calls[first]),
        }
        assert sum(chances.values()) == pytest.approx(1)
        value += sum(chance * kuhn(first + second, line) for line, chance in chances.items() if chance) / 6
    assert value == pytest.approx(KUHN["game_value_player0"], abs=1e-12)
    assert value == pytest.approx(-1 / 18, abs=1e-12)


@pytest.mark.parametrize(
    ("name", "defaults"),
    [
        ("prisoners_dilemma", {"rounds": 10, "action_names": ("<A>", "<B>")}),
        ("trust_and_split", {"rounds": 10, "coins": 10, "upper_value": 10, "lower_value": 1, "message_limit": 500}),
        ("split", {"rounds": 10, "quantity": 10, "high_value": 10, "low_value": 1}),
        ("trust_game", {"endowment": 10, "multiplier": 3}),
        ("ultimatum", {"endowment": 10}),
        ("two_dollar", {"stake": 200}),
        ("public_goods", {"seats": 4, "endowment": 20, "multiplier": 1.6, "punishment": False, "talk": False}),
        ("sequential_public_goods", {"seats": 4, "endowment": 20, "multiplier": 1.6}),
        ("fishery", {"seats": 5, "capacity": 100, "rounds": 12, "growth": 2, "collapse": 5, "talk": True}),
        ("guess_two_thirds", {"seats": 10, "rounds": 20, "most": 100, "ratio": 2 / 3}),
        ("el_farol", {"seats": 10, "rounds": 20, "ratio": 0.6, "empty": 10, "full": 0, "home": 5}),
        ("divide_dollar", {"seats": 10, "rounds": 20, "gold": 100}),
        ("public_goods_tokens", {"seats": 10, "rounds": 20, "tokens": 20, "multiplier": 2}),
        (
            "diners_dilemma",
            {"seats": 10, "cheap_price": 10, "cheap_worth": 15, "costly_price": 20, "costly_worth": 20},
        ),
        ("sealed_bid_auction", {"seats": 10, "rounds": 20, "most": 200}),
        ("battle_royale", {"seats": 10, "rounds": 20, "weakest": 35, "strongest": 80}),
        ("pirates", {"seats": 10, "gold": 100}),
        ("mini_hanabi", {"colours": 2, "ranks": 2, "hand": 3, "hints": 3, "lives": 3}),
    ],
)
def test_defaults_are_those_of_the_literature(name, defaults):
    options = make_game(name).options
    assert {key: getattr(options, key) for key in defaults} == defaults


MANY = ["public_goods", "sequential_public_goods", "fishery", "guess_two_thirds", "el_farol", "divide_dollar"]
MANY += ["public_goods_tokens", "diners_dilemma", "sealed_bid_auction", "battle_royale", "pirates"]


@pytest.mark.parametrize("seats", [2, 20])
@pytest.mark.parametrize("name", MANY)
def test_games_for_many_work_from_2_to_20_seats(name, seats):
    game = make_game(name, {"seats": seats, "rounds": 2})
    episode = record(game, 0, "peaceful" if name == "battle_royale" else "random")  # so that nobody is shot
    assert episode.seats == tuple(f"p{number}" for number in range(1, seats + 1))
    assert {turn.seat for turn in episode.turns} == set(episode.seats)
    assert not any(turn.invalid for turn in episode.turns)
    for refused in (1, 21):
        with pytest.raises(RecipeError, match=r"game\.seats"):
            make_game(name, {"seats": refused})
