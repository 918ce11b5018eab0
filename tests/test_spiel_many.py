"""Games of OpenSpiel for more than two: who sits where, what is paid by the rules, what a hidden role lets out."""

import random
from itertools import permutations

import pytest

pytest.importorskip("pyspiel")

from test_outcomes import play

from marft.games import make_game
from marft.games.openspiel import answer

KUHN = {"game": "kuhn_poker(players=3)"}
SOCIAL = {"game": "social_deduction(players=4)"}
SEATS = ("p1", "p2", "p3")


def by_the_rules(cards, bets):
    """Three-player Kuhn poker: 1 chip each at the start, 1 for a bet; whoever stayed and holds most takes all of it.

    bets: what was said in turn; after a bet the two others answer, once each.
    """
    opener = bets.index("bet") if "bet" in bets else None
    inside = set(range(3)) if opener is None else {n % 3 for n, said in enumerate(bets) if said == "bet"}
    paid = [1 + (opener is not None and player in inside) for player in range(3)]
    winner = max(inside, key=lambda player: cards[player])
    return [sum(paid) * (player == winner) - paid[player] for player in range(3)]


LINES = [["pass"] * before + ["bet", a, b] for before in range(3) for a in ("pass", "bet") for b in ("pass", "bet")]


@pytest.mark.parametrize("said", [["pass"] * 3, *LINES])
def test_three_player_kuhn_pays_by_its_rules(said):
    game = make_game("openspiel", KUHN)
    for cards in permutations(range(4), 3):
        game.deal(cards)
        earned = dict.fromkeys(SEATS, 0.0)
        for number, word in enumerate(said):
            assert game.acting() == (SEATS[number % 3],)
            result = game.act({SEATS[number % 3]: answer(word)})
            assert result.invalid == ()
            for seat, reward in result.rewards.items():
                earned[seat] += reward
        assert game.acting() == ()
        assert list(earned.values()) == by_the_rules(cards, said)


def test_the_seats_after_the_first_follow_it_round_the_table():
    firsts = []
    for seed in range(600):
        game = make_game("openspiel", KUHN | {"first": "random"})
        game.reset(seed)
        (first,) = game.acting()
        at = SEATS.index(first)
        assert game.facts()["players"] == {SEATS[(at + number) % 3]: number for number in range(3)}
        firsts.append(first)
    assert all(150 < firsts.count(seat) < 250 for seat in SEATS)
    game = make_game("openspiel", KUHN | {"first": "p2"})
    game.reset(0)
    assert game.acting() == ("p2",)


def test_a_forfeit_of_a_zero_sum_game_goes_to_the_others_in_equal_parts():
    game = make_game("openspiel", KUHN | {"invalid": "forfeit"})
    game.reset(0)
    assert game.act({"p1": answer("Bet")}).rewards == {}
    assert game.act({"p2": "?"}).rewards == {"p1": 1, "p2": -2, "p3": 1}
    goof = make_game("openspiel", {"game": "goofspiel(players=3,num_cards=3)", "invalid": "forfeit"})
    goof.reset(0)
    found = goof.act({"p1": "?", "p2": "?", "p3": goof.view("p3").say[0]})
    assert found.rewards == {"p1": -1, "p2": -1, "p3": 2}
    assert goof.facts()["forfeits"] == ["p1", "p2"]


def test_whoever_is_no_imposter_reads_the_same_whoever_is():
    """Each role dealt to another: the innocents' messages say nothing of it, the imposter's do."""
    told = {}
    for imposter in range(4):
        game = make_game("openspiel", SOCIAL)
        game.deal([1 << imposter, 1])  # who it is; the first signal, which all hear
        read = {seat: [] for seat in game.seats}
        for number in range(8):  # all speak, and then vote
            (seat,) = game.acting()
            read[seat] += game.observe(seat)
            assert game.act({seat: answer("claim_innocent" if number < 4 else f"vote_player_{(number + 1) % 4}")})
        for number, seat in enumerate(game.seats):
            told.setdefault((seat, number == imposter), set()).add(tuple(read[seat]))
    assert all(len(texts) == 1 for texts in told.values())
    assert all(told[seat, True] != told[seat, False] for seat in ("p1", "p2", "p3", "p4"))


def test_a_vote_sends_off_who_has_most_and_the_right_one_ends_it():
    game = make_game("openspiel", SOCIAL)
    game.deal([1 << 2, 1])
    for _ in range(4):
        game.act({game.acting()[0]: answer("SKIP")})
    for target in (2, 2, 0):
        game.act({game.acting()[0]: answer(f"VOTE_PLAYER_{target}")})
    assert game.act({"p4": answer("VOTE_PLAYER_2")}).rewards == {"p1": 1, "p2": 1, "p3": -1, "p4": 1}
    assert game.acting() == ()


@pytest.mark.parametrize("options", [KUHN | {"first": "random"}, {"game": "social_deduction(players=3)"}])
def test_wins_are_returns_above_the_mean_of_the_others(options):
    game, rng = make_game("openspiel", options), random.Random(0)
    episodes = [play(game, s, lambda game, seat: game.players["random"](game.view(seat), rng)) for s in range(60)]
    metrics = type(game).metrics(episodes)
    for name, test in (("win", float.__gt__), ("loss", float.__lt__), ("draw", float.__eq__)):
        by_seat, by_side = {seat: [] for seat in SEATS}, [[], [], []]
        for episode in episodes:
            returns = episode.returns()
            for seat in SEATS:
                found = test(float(returns[seat]), sum(returns[one] for one in SEATS if one != seat) / 2)
                by_seat[seat].append(found)
                by_side[episode.facts["players"][seat]].append(found)
        for seat in SEATS:
            assert metrics[f"{seat}/{name}"] == pytest.approx(sum(by_seat[seat]) / 60)
        for side, values in zip(("first", "second", "third"), by_side, strict=True):
            assert metrics[f"{side}/{name}"] == pytest.approx(sum(values) / 60)
        assert metrics[name] == pytest.approx(sum(map(sum, by_side)) / 180)
    assert "fourth/win" not in metrics


def test_the_moves_of_all_others_are_told_where_nothing_is_hidden():
    game = make_game("openspiel", {"game": "chinese_checkers(players=3)"})
    game.reset(0)
    moves = [game.act({seat: game.view(seat).say[0]}).actions[seat] for seat in ("p1", "p2", "p3")]
    (message,) = game.observe("p1")
    assert message.text.startswith(f"Player 1 played {moves[1]}.\nPlayer 2 played {moves[2]}.\nPosition:")
    game.reset(0)
    assert "against 2 other players; you are player 0 of 0 to 2." in game.observe("p1")[0].text
