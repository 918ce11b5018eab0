"""Decisions a second of the games on one core, text included: observe, random legal answer, parse, step.

Each game of OpenSpiel stands beside OpenSpiel alone playing at random (no text), and, where TextArena is installed in
the same environment and has the game, beside TextArena's bare environment playing at random. `python games.py [ROUNDS]`
prints the table; `make bench` writes it into RESULTS.md.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from timing import medians

from marft.game import Game
from marft.games import make_game
from marft.games.openspiel import SpielGame
from marft.games.spiel import CHANCE, SIMULTANEOUS, load_game

MATRIX = {"prisoners_dilemma": {"rounds": 100}, "matching_pennies": {"rounds": 10}}
SPIEL = {
    "tic_tac_toe": {},
    "connect_four": {},
    "kuhn_poker": {},
    "leduc_poker": {},
    "liars_dice": {},
    "mini_hanabi": {},
    "goofspiel": {},
    "rock_paper_scissors": {},
    "openspiel": {"game": "oware"},
}
DECISIONS = 6000
"""About how many one timed call makes, so that no call is short beside the clock's grain."""
SEED = 0


def decisions(rounds: int) -> list[tuple[str, str]]:
    """One row a game: our figure, and those beside it with the ratios."""
    plays: dict[str, tuple[Callable[[int], int], int]] = {}
    for name, options in (MATRIX | SPIEL).items():
        game = make_game(name, options)
        plays[f"ours {name}"] = sized(lambda count, game=game: through_text(game, count))
        if isinstance(game, SpielGame):
            plays[f"bare {name}"] = sized(lambda count, game=game: bare(game.spiel(), count))
        if name in PEERS and find_spec("textarena"):
            plays[f"peer {name}"] = sized(lambda count, name=name: peer(*PEERS[name], count))
    made = {key: play(count) for key, (play, count) in plays.items()}
    seconds = medians({key: lambda p=play, c=count: p(c) for key, (play, count) in plays.items()}, rounds)
    speed = {key: made[key] / seconds[key] for key in plays}
    rows = []
    for name, options in (MATRIX | SPIEL).items():
        ours = speed[f"ours {name}"]
        text = f"{ours:,.0f} decisions/s"
        if f"bare {name}" in speed:
            text += f"; OpenSpiel without text {speed[f'bare {name}']:,.0f} ({ours / speed[f'bare {name}']:.2f} of it)"
        if f"peer {name}" in speed:
            text += f"; TextArena {speed[f'peer {name}']:,.0f} ({ours / speed[f'peer {name}']:.2f} times as fast)"
        rows.append((f"{name}{''.join(f' {key}={value}' for key, value in options.items())}", text))
    if not find_spec("textarena"):
        rows.append(("TextArena", "not measured: textarena is not installed here (pip install textarena==0.7.4)"))
    return rows


def sized(play: Callable[[int], int]) -> tuple[Callable[[int], int], int]:
    """The play and how many episodes of it make about DECISIONS."""
    return play, max(1, DECISIONS * 20 // play(20))


def through_text(game: Game, episodes: int) -> int:
    """Random play through messages and answers; how many decisions it took. The matrix games get any of two texts."""
    rng, count = random.Random(SEED), 0
    for seed in range(episodes):
        game.reset(seed)
        while seats := game.acting():
            texts = {}
            for seat in seats:
                game.observe(seat)
                say = game.view(seat).say
                texts[seat] = say[int(rng.random() * len(say))]
            game.act(texts)
            count += len(seats)
    return count


def bare(game: str, episodes: int) -> int:
    """Random play of OpenSpiel in Python; how many decisions it took."""
    spiel, rng, count = load_game(game), random.Random(SEED), 0
    for _ in range(episodes):
        state = spiel.new_initial_state()
        while not state.is_terminal():
            player = state.current_player()
            if player == CHANCE:
                actions, chances = zip(*state.chance_outcomes(), strict=True)
                state.apply_action(rng.choices(actions, chances)[0])
            elif player == SIMULTANEOUS:
                state.apply_actions([rng.choice(state.legal_actions(0)), rng.choice(state.legal_actions(1))])
                count += 2
            else:
                state.apply_action(rng.choice(state.legal_actions()))
                count += 1
        state.returns()
    return count


def peer(environment: str, answers: Callable[[dict[str, Any]], list[str]], episodes: int) -> int:
    """Random play of a TextArena environment without wrappers; how many decisions it took."""
    import textarena

    made, rng, count = textarena.make(environment), random.Random(SEED), 0
    for seed in range(episodes):
        made.reset(num_players=2, seed=seed)
        done = False
        while not done:
            made.get_observation()
            done, _ = made.step(rng.choice(answers(made.state.game_state)))
            count += 1
        made.close()
    return count


def _cells(state: dict[str, Any]) -> list[str]:
    return [f"[{3 * row + column}]" for row in range(3) for column in range(3) if state["board"][row][column] == ""]


def _columns(state: dict[str, Any]) -> list[str]:
    return [f"[col {column}]" for column, mark in enumerate(state["board"][0]) if mark == "."]


def _bets(state: dict[str, Any]) -> list[str]:
    return [f"[{move}]" for move in state["current_legal_action_tree"]]


def _bids(state: dict[str, Any]) -> list[str]:
    number, face = state["current_bid"]["quantity"], state["current_bid"]["face_value"]
    raised = [f"[Bid: {number + 1}, {max(face, 1)}]"] + [f"[Bid: {number}, {face + 1}]"] * (0 < face < 6)
    return [*raised, "[Call]"] if number else raised


def _throws(state: dict[str, Any]) -> list[str]:
    return ["[rock]", "[paper]", "[scissors]"]


PEERS = {
    "tic_tac_toe": ("TicTacToe-v0-raw", _cells),
    "connect_four": ("ConnectFour-v0-raw", _columns),
    "kuhn_poker": ("KuhnPoker-v0-raw", _bets),
    "liars_dice": ("LiarsDice-v0-small-raw", _bids),
    "rock_paper_scissors": ("IteratedRockPaperScissors-v0-raw", _throws),
}


if __name__ == "__main__":
    for what, figure in decisions(int(sys.argv[1]) if len(sys.argv) > 1 else 5):
        print(f"{what}: {figure}")
