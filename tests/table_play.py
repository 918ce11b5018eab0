"""Playing table games by hand and by script, as a rollout would, for their tests."""

import random
import time

import pytest
from hypothesis import strategies as st

from marft.compliance import NASTY
from marft.episode import Episode, Turn
from marft.errors import RecipeError
from marft.games import make_game

PIECES = [
    "<answer>",
    "</answer>",
    "<answer",
    "0",
    "3",
    "10",
    "1e309",
    "-0",
    "١٢",
    "nan",
    " ",
    ",",
    "p1",
    "p2 3",
    "\n",
    '"',
]
PIECES += ["Proposal:", " 3 hats, 0 books, 10 balls", "accept", "reject", "propose 100", "none", "<<message_start>>"]
PIECES += ["<<message_end>>", "<<proposal_start>>", "<<proposal_end>>", "\ud800", "99999999999999999999", "1_0", "3.5"]
any_text = st.text(max_size=40) | st.lists(st.sampled_from(PIECES), max_size=8).map("".join) | st.sampled_from(NASTY)


def started(name, seed=0, **options):
    game = make_game(name, options)
    game.reset(seed)
    return game


def answers(game, moves):
    """{seat: move} or one move for all acting seats -> texts between the answer marks."""
    if not isinstance(moves, dict):
        moves = dict.fromkeys(game.acting(), moves)
    return {seat: f"<answer>{moves[seat]}</answer>" for seat in game.acting()}


def do(game, moves):
    return game.act(answers(game, moves))


def reading(game, seat):
    (message,) = game.observe(seat)
    assert message.role == "user"
    return message.text


def record(game, seed, speak, status="done"):
    """An Episode as a rollout writes it. speak: a player's name, or (game, seat) -> text."""
    if isinstance(speak, str):
        player, rng = game.players[speak], random.Random(seed)
        speak = lambda game, seat: player(game.view(seat), rng)  # noqa: E731
    game.reset(seed)
    episode = Episode(f"e{seed}", game.played, game.seats, dict.fromkeys(game.seats, "x"), seed, status=status)
    while seats := game.acting():
        step = game.clock
        texts = {seat: speak(game, seat) for seat in seats}
        result = game.act(texts)
        for order, seat in enumerate(seats):
            turn = Turn(seat, step, order, "x", texts[seat])
            turn.action, turn.invalid = result.actions[seat], seat in result.invalid
            episode.turns.append(turn)
        episode.rewards += [{} for _ in range(step + 1 - len(episode.rewards))]
        for seat, reward in result.rewards.items():
            episode.rewards[step][seat] = episode.rewards[step].get(seat, 0.0) + reward
    episode.facts = game.facts()
    return episode


def scripted(name, speak, seeds=1, **options):
    """(metrics, episodes) of self-play over the first seeds."""
    game = make_game(name, options)
    episodes = [record(game, seed, speak) for seed in range(seeds)]
    return game.metrics(episodes), episodes


def players_are_readable(name, **options):
    """Every player's every answer, against itself and in a mixed table."""
    game = make_game(name, options)
    for seed, player in enumerate(game.players):
        assert not any(turn.invalid for turn in record(game, seed, player).turns), player
    names = sorted(game.players)
    rng = random.Random(1)
    for seed in range(8):
        table = {seat: game.players[rng.choice(names)] for seat in game.seats}
        episode = record(game, seed, lambda game, seat: table[seat](game.view(seat), rng))  # noqa: B023
        assert not any(turn.invalid for turn in episode.turns)


def survives(game, data, seed=0):
    """Any texts at all: the episode ends and every act is quick."""
    game.reset(seed)
    acts = 0
    while seats := game.acting():
        texts = {seat: data.draw(any_text) for seat in seats}
        for seat in seats:
            reading(game, seat).encode()
        start = time.perf_counter()
        game.act(texts)
        assert time.perf_counter() - start < 0.5
        acts += 1
        assert acts < 500


def megabytes_are_read_at_once(game, *more):
    """Each text in each phase of an episode, under 50 ms a text."""
    big = ["<answer>" * 120_000, "</answer>" * 120_000, "<" * 1_000_000, " " * 1_000_000, "1" * 1_000_000]
    big += ["<answer>" + " " * 1_000_000 + "3</answer>", "<answer>" + "9" * 1_000_000 + "</answer>"]
    for text in (*big, *more, "<answer>3" * 100_000 + "</answer>" * 10):
        game.reset(0)
        for _ in range(4):
            if seats := game.acting():
                start = time.perf_counter()
                game.act(dict.fromkeys(seats, text))
                assert (time.perf_counter() - start) / len(seats) < 0.05, text[:20]


def refused(name, key, options):
    with pytest.raises(RecipeError) as error:
        make_game(name, options)
    assert name in str(error.value)
    assert key in str(error.value)
    assert "got" in str(error.value) or "allowed" in str(error.value)
