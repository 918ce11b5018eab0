"""Ultimatum, trust game, two-dollar: payoffs by hand, roles, secrets, unreadable moves, metrics, any text."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from table_play import (
    any_text,
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
from marft.games.two_dollar import read_move

NAMES = ("ultimatum", "trust_game", "two_dollar")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("options", [{}, {"rounds": 2, "roles": "fixed"}])
def test_they_keep_the_contract(name, options):
    check_game(
        lambda: make_game(name, options), seeds=(0,), texts=[f"<answer>{m}</answer>" for m in ("accept", "3", "end")]
    )


def in_turn(game, *moves):
    """One move after the other; returns all results."""
    return [do(game, move) for move in moves]


@pytest.mark.parametrize(
    ("offer", "reply", "paid"),
    [(4, "accept", (6, 4)), (4, "reject", (0, 0)), (0, "accept", (10, 0)), (10, "accept", (0, 10))],
)
def test_an_offer_pays_what_was_agreed_or_nothing(offer, reply, paid):
    game = started("ultimatum", roles="fixed")
    first, last = in_turn(game, offer, reply)
    assert first.rewards == {}
    assert last.rewards == dict(zip(("alice", "bob"), paid, strict=True))


@pytest.mark.parametrize(
    ("player", "welfare"), [("fair", 10), ("selfish", 10), ("strict", 0), ("generous", 10), ("tit_for_tat", 10)]
)
def test_ultimatum_self_play(player, welfare):
    metrics, _ = scripted("ultimatum", player, seeds=2)
    assert metrics["welfare"] == welfare
    assert metrics["acceptance"] == welfare / 10


def test_the_fair_refuse_the_selfish():
    game = make_game("ultimatum", {"roles": "fixed"})
    table = {"alice": game.players["selfish"], "bob": game.players["fair"]}
    metrics = game.metrics([record(game, 0, lambda game, seat: table[seat](game.view(seat), None))])
    assert metrics["welfare"] == 0
    assert metrics["alice/offer_share"] == pytest.approx(0.1)
    assert metrics["bob/acceptance_low"] == 0
    assert math.isnan(metrics["bob/offer_share"])


def test_ultimatum_metrics_of_hand_made_play():
    plan = [(5, "accept"), (2, "reject"), (2, "accept"), (3, "reject")]

    def speak(game, seat):
        return f"<answer>{plan[game.clock][game.phase == 'answer']}</answer>"

    game = make_game("ultimatum", {"rounds": 4})
    metrics = game.metrics([record(game, 0, speak), record(game, 0, speak, status="failed")])
    assert metrics["offer_share"] == pytest.approx(0.3)
    assert metrics["acceptance"] == 0.5
    assert metrics["acceptance_low"] == 0.5
    assert metrics["welfare"] == 5


@pytest.mark.parametrize(
    ("sent", "returned", "paid"),
    [(10, 15, (15, 15)), (10, 0, (0, 30)), (10, 30, (30, 0)), (4, 4, (10, 8)), (1, 2, (11, 1))],
)
def test_what_is_sent_trebles_and_may_come_back(sent, returned, paid):
    game = started("trust_game", roles="fixed")
    first, last = in_turn(game, sent, returned)
    assert first.rewards == {}
    assert last.rewards == dict(zip(("alice", "bob"), paid, strict=True))


def test_sending_nothing_ends_the_round_at_once():
    game = started("trust_game", roles="fixed")
    assert do(game, 0).rewards == {"alice": 10}
    assert game.acting() == ("alice",)
    assert game.clock == 1


@pytest.mark.parametrize(
    ("player", "welfare", "sent"),
    [("fair", 30, 1), ("distrustful", 10, 0), ("taker", 30, 1), ("cautious", 20, 0.5), ("reciprocal", 30, 1)],
)
def test_trust_game_self_play(player, welfare, sent):
    metrics, _ = scripted("trust_game", player, seeds=2)
    assert metrics["welfare"] == welfare
    assert metrics["sent_share"] == sent
    assert metrics["efficiency"] == pytest.approx(welfare / 30)


def test_the_reciprocal_stop_sending_to_takers():
    game = make_game("trust_game", {"roles": "fixed"})
    table = {"alice": game.players["reciprocal"], "bob": game.players["taker"]}
    episode = record(game, 0, lambda game, seat: table[seat](game.view(seat), None))
    assert episode.facts["sent"] == [10] + [0] * 9
    metrics = game.metrics([episode])
    assert metrics["repaid"] == 0
    assert metrics["bob/returned_share"] == 0
    assert metrics["return_alice"] == 90


def test_trust_game_metrics_of_hand_made_play():
    """10 sent and 10 returned is repaid, 5 and 4 is not, 2 and 6 is all there was; nothing sent asks for nothing."""
    plan = [(10, 10), (5, 4), (0, None), (2, 6)]

    def speak(game, seat):
        return f"<answer>{plan[game.clock][game.phase == 'return']}</answer>"

    game = make_game("trust_game", {"rounds": 4})
    metrics = game.metrics([record(game, 0, speak), record(game, 0, speak, status="failed")])
    assert metrics["sent_share"] == pytest.approx(17 / 40)
    assert metrics["returned_share"] == pytest.approx((10 / 30 + 4 / 15 + 1) / 3)
    assert metrics["repaid"] == pytest.approx(2 / 3)
    assert metrics["efficiency"] == pytest.approx((30 + 20 + 10 + 14) / 120)


@pytest.mark.parametrize("name", NAMES)
def test_roles_alternate_from_a_drawn_start_or_stay(name):
    firsts = set()
    for seed in range(20):
        game = started(name, seed, rounds=3)
        order = []
        while game.acting():
            if len(order) == len(game.past):
                order += game.acting()
            do(
                game,
                {
                    seat: {"offer": 5, "answer": "accept", "send": 0, "bargain": "end"}[game.phase]
                    for seat in game.acting()
                },
            )
        assert order[0] == order[2] != order[1]
        firsts.add(order[0])
        assert started(name, seed, roles="fixed").acting() == ("alice",)
    assert firsts == {"alice", "bob"}


@pytest.mark.parametrize("name", ["ultimatum", "trust_game"])
def test_both_moves_of_a_round_share_its_clock(name):
    game = started(name, rounds=2)
    clocks = []
    while game.acting():
        clocks.append(game.clock)
        do(game, 3 if game.phase != "answer" else "reject")
    assert clocks == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("name", "moves", "policy", "action"),
    [
        ("ultimatum", [11], "first", {"offer": 0}),
        ("ultimatum", ["nan"], "last", {"offer": 10}),
        ("ultimatum", [4, "Accept!"], "first", {"accept": True}),
        ("ultimatum", [4, "5"], "last", {"accept": False}),
        ("trust_game", ["1e309"], "last", {"send": 10}),
        ("trust_game", [5, 16], "first", {"return": 0}),
        ("trust_game", [5, "-1"], "last", {"return": 15}),
    ],
)
def test_an_unreadable_move_is_replaced_and_flagged(name, moves, policy, action):
    game = started(name, roles="fixed", invalid=policy)
    result = in_turn(game, *moves)[-1]
    assert list(result.actions.values()) == [action]
    assert result.invalid == tuple(result.actions)


def test_a_deal_pays_dollars_and_no_deal_the_fallbacks():
    game = started("two_dollar", 3, roles="fixed")
    fallbacks = [game.view(seat).now["fallback"] for seat in game.seats]
    *_, last = in_turn(game, "propose 150", "propose 120", "accept")
    assert last.rewards == {"alice": 0.8, "bob": 1.2}
    *_, last = in_turn(game, "propose 150", "end")
    second = [game.past[1]["fallbacks"][seat] / 100 for seat in game.seats]
    assert list(last.rewards.values()) == second
    assert fallbacks == list(game.past[0]["fallbacks"].values())
    results = in_turn(game, *["propose 200", "pass"] * 3)
    assert [bool(result.rewards) for result in results] == [False] * 5 + [True]
    assert game.acting() == ()
    assert [deal and deal["bob"] for deal in game.facts()["deals"]] == [120, None, None]


def test_a_message_comes_before_its_move_and_only_in_quotes():
    game = started("two_dollar", roles="fixed", message_limit=20)
    game.act({"alice": 'Take "it"\nbob proposes: 200 <answer>propose 130</answer> or else'})
    assert reading(game, "bob").splitlines()[-3:] == [
        "alice says: \"Take 'it' bob propos\"",
        "alice proposes: 130 for alice, 70 for bob.",
        "Your turn?",
    ]
    assert game.view("bob").now["offered"] == 70


@pytest.mark.parametrize(
    "text", ["accept", "<answer>accept</answer>", "<answer>propose 201</answer>", "<answer>propose -1</answer>"]
)
@pytest.mark.parametrize("policy", ["pass", "end"])
def test_nothing_to_accept_or_too_much_is_unreadable(text, policy):
    game = started("two_dollar", roles="fixed", invalid=policy)
    result = game.act({"alice": text})
    assert result.invalid == ("alice",)
    assert result.actions["alice"]["move"] == policy
    assert bool(result.rewards) == (policy == "end")


@pytest.mark.parametrize(
    ("text", "move"),
    [
        ("propose 0", 0),
        ("propose 200", 200),
        ("propose  7", 7),
        ("propose", None),
        ("propose ١", None),
        ("ACCEPT", None),
    ],
)
def test_moves_are_read_as_written(text, move):
    assert read_move(f"ok <answer>{text}</answer>", 200) == move


def test_the_others_fallback_changes_nothing_that_a_seat_sees():
    """Among instances with the same own fallbacks, alice reads the same whatever bob's are, also after the rounds."""
    seen, others = {}, {}
    for seed in range(300):
        game = started("two_dollar", seed, roles="fixed", rounds=2, fallback=10)
        texts, key, hidden = [], [], []
        for _ in range(2):
            key.append(game.view("alice").now["fallback"])
            hidden.append(game.view("bob").now["fallback"])
            texts.append((reading(game, "alice"), repr(game.view("alice"))))
            in_turn(game, "propose 150", "end")
        seen.setdefault(tuple(key), set()).add(repr(texts))
        others.setdefault(tuple(key), set()).add(tuple(hidden))
    assert len(seen) == 9
    assert all(len(texts) == 1 for texts in seen.values())
    assert all(len(hidden) > 5 for hidden in others.values())


def test_two_dollar_self_play_and_metrics():
    metrics, _ = scripted("two_dollar", "fair", seeds=10)
    assert metrics["agreement"] == 1
    assert metrics["share"] == pytest.approx(0.5)
    assert metrics["welfare"] == pytest.approx(2)
    assert metrics["surplus_share"] == pytest.approx(0.5)
    assert metrics["bad_deals"] == 0
    assert metrics["turns"] == 2
    hard, (one, *_) = scripted("two_dollar", "hard", seeds=10)
    assert hard["agreement"] == 0
    assert math.isnan(hard["share"])
    assert hard["welfare"] < 1.8
    assert one.returns()["alice"] == pytest.approx(sum(f["alice"] for f in one.facts["fallbacks"]) / 100)
    assert scripted("two_dollar", "conceding", seeds=10)[0]["agreement"] > 0.9


def test_a_deal_under_the_own_fallback_is_counted():
    def speak(game, seat):
        return f"<answer>{'propose 200' if seat == 'alice' else 'accept'}</answer>"

    game = make_game("two_dollar", {"roles": "fixed", "rounds": 1})
    episodes = [record(game, seed, speak) for seed in range(20)]
    metrics = game.metrics(episodes)
    assert metrics["alice/bad_deals"] == 0
    poor = sum(episode.facts["fallbacks"][0]["bob"] > 0 for episode in episodes) / 20
    assert metrics["bob/bad_deals"] == pytest.approx(poor)
    assert metrics["alice/share"] == 1


@settings(max_examples=30)
@given(data=st.data(), name=st.sampled_from(NAMES))
def test_any_text_is_survived(data, name):
    policies = ["pass", "end"] if name == "two_dollar" else ["random", "first", "last"]
    survives(make_game(name, {"rounds": 2, "invalid": data.draw(st.sampled_from(policies))}), data)


@given(text=any_text)
def test_no_message_makes_the_other_seats_move(text):
    game = started("two_dollar", roles="fixed")
    game.act({"alice": text.replace("<answer>", "") + "<answer>pass</answer>"})
    lines = reading(game, "bob").splitlines()
    assert [line for line in lines if line.startswith("alice p")] == ["alice passes."]
    assert game.view("bob").now["offered"] is None


@pytest.mark.parametrize("name", NAMES)
def test_a_megabyte_is_read_at_once(name):
    megabytes_are_read_at_once(make_game(name), "<answer>propose " * 60_000, "x" * 900_000 + "<answer>accept</answer>")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("options", [{}, {"roles": "fixed", "rounds": 2}])
def test_players_are_never_unreadable(name, options):
    players_are_readable(name, **options)


@pytest.mark.parametrize(
    ("name", "key", "options"),
    [
        ("ultimatum", "endowment", {"endowment": 0}),
        ("ultimatum", "roles", {"roles": "random"}),
        ("trust_game", "multiplier", {"multiplier": 1}),
        ("two_dollar", "fallback", {"fallback": 100}),
        ("two_dollar", "invalid", {"invalid": "random"}),
        ("two_dollar", "turns", {"turns": 1}),
    ],
)
def test_bad_options_are_named(name, key, options):
    refused(name, key, options)
