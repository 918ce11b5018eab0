"""Metrics of the OpenSpiel games against play known by heart and an independent count."""

import math
import random

import pytest

from marft.episode import Episode, Turn
from marft.games import make_game
from marft.games.openspiel import answer


def play(game, seed, speak, status="done"):
    """An Episode as a rollout writes it; `speak` is (game, seat) -> text."""
    game.reset(seed)
    episode = Episode(f"e{seed}", game.name, game.seats, {}, seed, status=status)
    while seats := game.acting():
        step = game.clock
        texts = {seat: speak(game, seat) for seat in seats}
        result = game.act(texts)
        for seat in seats:
            turn = Turn(seat, step, len(episode.turns), "", texts[seat])
            turn.action, turn.invalid = result.actions[seat], seat in result.invalid
            episode.turns.append(turn)
        episode.rewards.append(result.rewards)
    episode.facts = game.facts()
    return episode


def test_one_won_game():
    game = make_game("tic_tac_toe", {"first": "bob"})
    moves = iter("1425")
    won = play(game, 0, lambda game, seat: answer(next(moves, "3")))
    metrics = type(game).metrics([won])
    assert (metrics["bob/win"], metrics["bob/loss"], metrics["alice/win"], metrics["alice/loss"]) == (1, 0, 0, 1)
    assert (metrics["first/win"], metrics["second/win"], metrics["win"], metrics["draw"]) == (1, 0, 0.5, 0)
    assert (metrics["return_bob"], metrics["return_alice"], metrics["return"]) == (1, -1, 0)
    assert metrics["length"] == 5
    assert metrics["invalid"] == 0
    alone = type(game).metrics([won], ["alice"])
    assert (alone["win"], alone["loss"], alone["return"], alone["second/loss"]) == (0, 1, -1, 1)
    assert math.isnan(alone["first/win"])
    assert not any("bob" in name for name in alone)


@pytest.mark.parametrize("name", ["tic_tac_toe", "kuhn_poker", "rock_paper_scissors", "goofspiel"])
@pytest.mark.parametrize("seats", [None, ["alice"], ["bob"]])
def test_metrics_equal_an_independent_count(name, seats):
    options = {} if name in ("rock_paper_scissors", "goofspiel") else {"first": "random"}
    game, rng = make_game(name, options), random.Random(0)
    say = lambda game, seat: "hm" if rng.random() < 0.2 else game.players["random"](game.view(seat), rng)  # noqa: E731
    episodes = [play(game, seed, say, "failed" if seed % 10 == 9 else "done") for seed in range(80)]
    metrics = type(game).metrics(episodes, seats)
    outcomes, invalid, lengths = {}, {}, []
    for episode in episodes:
        if episode.status == "failed":
            continue
        lengths.append(len(episode.turns))
        for seat in seats or ["alice", "bob"]:
            own = sum(reward.get(seat, 0) for reward in episode.rewards)
            other = sum(reward.get("bob" if seat == "alice" else "alice", 0) for reward in episode.rewards)
            side = ("first", "second")[episode.facts["players"][seat]]
            for key in ("", f"{seat}/", f"{side}/"):
                outcomes.setdefault(key, []).append((own, other))
                invalid.setdefault(key, []).extend(turn.invalid for turn in episode.turns if turn.seat == seat)
    for key, pairs in outcomes.items():
        assert metrics[f"{key}win"] == pytest.approx(sum(own > other for own, other in pairs) / len(pairs))
        assert metrics[f"{key}draw"] == pytest.approx(sum(own == other for own, other in pairs) / len(pairs))
        assert metrics[f"{key}loss"] == pytest.approx(sum(own < other for own, other in pairs) / len(pairs))
        assert metrics[f"{key}invalid"] == pytest.approx(sum(invalid[key]) / len(invalid[key]))
        mean = f"return_{key[:-1]}" if key[:-1] in ("alice", "bob") else f"{key}return"
        assert metrics[mean] == pytest.approx(sum(own for own, _ in pairs) / len(pairs))
    assert metrics["length"] == pytest.approx(sum(lengths) / len(lengths))
    assert 0.1 < metrics["invalid"] < 0.3


def test_metrics_of_a_shared_score():
    game = make_game("mini_hanabi")

    def speak(game, seat):
        if game.facts()["moves"] == 0:
            game.deal([0, 1, 2, 3, 2, 2, 0, 0])  # red 1, red 2, yellow 1; yellow 2, yellow 1, yellow 1; red 1, red 1
        return answer(["play 1", "hm"][game.facts()["moves"] == 1])

    episode = play(game, 0, speak)
    metrics = type(game).metrics([episode])
    assert metrics["return"] == game.facts()["returns"]["alice"] == sum(r["bob"] for r in episode.rewards)
    assert metrics["invalid"] == 1 / len(episode.turns)
    assert metrics["alice/invalid"] == 0
    assert metrics["bob/invalid"] > 0
    assert metrics["zero"] == 0
    assert metrics["length"] == len(episode.turns)


@pytest.mark.parametrize("name", ["kuhn_poker", "mini_hanabi"])
def test_nothing_played_is_nan_and_a_strange_seat_an_error(name):
    kind = type(make_game(name))
    assert all(math.isnan(value) for value in kind.metrics([]).values())
    with pytest.raises(ValueError, match="no seat 'carol'"):
        kind.metrics([], ["carol"])
