"""Metrics of the matrix games against a second, slower count and against play known by heart."""

import math
import random
import time
from itertools import product

import pytest

from marft.episode import Episode, Turn
from marft.game import play_scripted
from marft.games import make_game
from marft.games.players import PLAYERS

PD = "prisoners_dilemma"


def record(game, seed, players, player_seed=0, status="done"):
    """An Episode of scripted play, as a rollout writes it."""
    game.reset(seed)
    rng = {seat: random.Random(f"{player_seed}/{seat}") for seat in game.seats}
    episode = Episode(f"e{seed}", game.name, game.seats, dict(players), seed, status=status)
    while seats := game.acting():
        step = game.clock
        texts = {seat: PLAYERS[players[seat]](game.view(seat), rng[seat]) for seat in seats}
        if rng["alice"].random() < 0.1 and game.view("alice").phase == "move":
            texts["alice"] = "both <A> and <B>"
        result = game.act(texts)
        for seat in seats:
            turn = Turn(seat, step, len(episode.turns), players[seat], texts[seat])
            turn.action, turn.invalid = result.actions[seat], seat in result.invalid
            episode.turns.append(turn)
        episode.rewards += [{} for _ in range(step + 1 - len(episode.rewards))]
        for seat, reward in result.rewards.items():
            episode.rewards[step][seat] = episode.rewards[step].get(seat, 0.0) + reward
    episode.facts = game.facts()
    return episode


def slow_count(episodes, labels, seats):
    """The metrics again, cell by cell from lists of moves."""
    seen = {}
    for episode in episodes:
        if episode.failed:
            continue
        moves = {s: [t.action for t in episode.turns if t.seat == s and t.action in labels] for s in ("alice", "bob")}
        for seat in seats:
            mine, theirs = moves[seat], moves["bob" if seat == "alice" else "alice"]
            for i, move in enumerate(mine):
                seen.setdefault("cooperation", []).append(move == labels[0])
                if i:
                    seen.setdefault("cooperation_after_first", []).append(move == labels[0])
                    key = "".join("cd"[labels.index(last)] for last in (mine[i - 1], theirs[i - 1]))
                    seen.setdefault(f"p_c_{key}", []).append(move == labels[0])
            choices = [t for t in episode.turns if t.seat == seat and not isinstance(t.action, dict)]
            seen.setdefault("invalid", []).extend(t.invalid for t in choices)
            seen.setdefault("return", []).append(sum(step[seat] for step in episode.rewards))
        joint = sum(step["alice"] + step["bob"] for step in episode.rewards)
        seen.setdefault("welfare", []).append(joint / episode.facts["rounds"])
    return {name: sum(values) / len(values) for name, values in seen.items()}


@pytest.mark.parametrize("options", [{}, {"cheap_talk": True}, {"invalid": "forfeit", "continue_probability": 0.9}])
@pytest.mark.parametrize("name", ["prisoners_dilemma", "battle_of_sexes"])
def test_metrics_equal_an_independent_count(name, options):
    game = make_game(name, options)
    pairs = list(product(sorted(PLAYERS), repeat=2))
    episodes = [
        record(game, seed, dict(zip(game.seats, pair, strict=True)), seed, "failed" if seed % 10 == 9 else "done")
        for seed, pair in enumerate(pairs)
    ]
    labels = type(game).labels
    for seats in (None, ["alice"], ["bob"]):
        got = type(game).metrics(episodes, seats)
        for key, value in slow_count(episodes, labels, seats or ["alice", "bob"]).items():
            assert got[key] == pytest.approx(value, abs=1e-12), key
    for seat in ("alice", "bob"):
        alone = type(game).metrics(episodes, [seat])
        assert got_like(type(game).metrics(episodes), seat) == pytest.approx(got_like(alone, seat))
        assert alone["return"] == alone[f"return_{seat}"]
        assert alone["cooperation"] == alone[f"{seat}/cooperation"]


def got_like(metrics, seat):
    return {key: value for key, value in metrics.items() if seat in key}


def test_metrics_of_known_play():
    game = make_game(PD)
    metrics = type(game).metrics([clean(game, "TFT", "AllD")])
    assert metrics["alice/cooperation"] == 0.1
    assert metrics["alice/cooperation_after_first"] == 0
    assert metrics["alice/p_c_cd"] == 0
    assert math.isnan(metrics["alice/p_c_cc"])
    assert metrics["cooperation"] == 0.05
    assert metrics["return_alice"] == 9
    assert metrics["return_bob"] == 14
    assert metrics["return"] == 11.5
    assert metrics["welfare"] == pytest.approx(2.3)
    assert metrics["invalid"] == 0


def clean(game, alice, bob):
    episode = Episode("e", game.name, game.seats, {}, 0, facts={"rounds": 10})
    players = {"alice": PLAYERS[alice], "bob": PLAYERS[bob]}
    for step, result in enumerate(play_scripted(game, 0, players)):
        episode.turns += [Turn(seat, step, 0, "", "", action=action) for seat, action in result.actions.items()]
        episode.rewards.append(result.rewards)
    return episode


def test_metrics_survive_the_way_through_json_and_nothing_played():
    game = make_game(PD, {"cheap_talk": True})
    episode = record(game, 3, {"alice": "TFT", "bob": "random"})
    again = Episode.from_dict(episode.to_dict())
    assert type(game).metrics([again]) == pytest.approx(type(game).metrics([episode]), nan_ok=True)
    assert all(math.isnan(value) for value in type(game).metrics([]).values())
    with pytest.raises(ValueError, match="no seat 'carol'"):
        type(game).metrics([episode], ["carol"])


def test_metrics_of_a_batch_take_milliseconds():
    game = make_game(PD)
    episodes = [clean(game, "TFT", "random") for _ in range(128)]
    start = time.perf_counter()
    type(game).metrics(episodes)
    assert time.perf_counter() - start < 0.1
