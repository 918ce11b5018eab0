"""Scripted players of the OpenSpiel games that need no knowledge of the game: (view, generator) -> answer.

Search and equilibrium players use OpenSpiel's own algorithms, seeded from the generator they are given; a solved game
is kept for the life of the process.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any

from marft.games.spiel import SIMULTANEOUS, import_pyspiel, load_game

if TYPE_CHECKING:
    from marft.game import Player
    from marft.games.openspiel import SpielView


def uniform(view: SpielView, rng: random.Random) -> str:
    """Any legal action, evenly."""
    return view.say[int(rng.random() * len(view.say))]


def first_legal(view: SpielView, rng: random.Random) -> str:
    """The legal action with the lowest number."""
    return view.say[0]


def last_legal(view: SpielView, rng: random.Random) -> str:
    """The legal action with the highest number."""
    return view.say[-1]


BASIC: dict[str, Player] = {"random": uniform, "first": first_legal, "last": last_legal}


def state_of(view: SpielView) -> Any:
    """OpenSpiel's state in a game with perfect information, rebuilt from the history."""
    state = load_game(view.game).new_initial_state()
    actions = iter(view.history)
    for action in actions:
        if state.current_player() == SIMULTANEOUS:
            state.apply_actions([action, *islice(actions, state.num_players() - 1)])
        else:
            state.apply_action(action)
    return state


def mcts(simulations: int) -> Player:
    """Monte-Carlo tree search with that many simulations a move (UCT 2, one random rollout a leaf, endings solved)."""

    def play(view: SpielView, rng: random.Random) -> str:
        pyspiel = import_pyspiel("player mcts")
        evaluator = pyspiel.RandomRolloutEvaluator(1, rng.getrandbits(31))
        bot = pyspiel.MCTSBot(load_game(view.game), evaluator, 2.0, simulations, 100, True, rng.getrandbits(31), False)
        return view.say[view.legal.index(bot.step(state_of(view)))]

    play.__name__ = f"mcts{simulations}"
    play.__doc__ = f"Tree search with {simulations} simulations a move."
    return play


SEARCH: dict[str, Player] = {"mcts100": mcts(100), "mcts1000": mcts(1000)}
MAKERS: dict[str, Callable[..., Player]] = {"mcts": mcts}

CFR_ITERATIONS = 500


@lru_cache(maxsize=8)
def equilibrium(game: str, iterations: int = CFR_ITERATIONS) -> dict[str, dict[int, float]]:
    """The average policy of CFR+ after so many iterations: information state -> action -> probability."""
    solver = import_pyspiel("player cfr").CFRPlusSolver(load_game(game))
    for _ in range(iterations):
        solver.evaluate_and_update_policy()
    return {info: dict(policy) for info, policy in solver.tabular_average_policy().policy_table().items()}


def cfr(view: SpielView, rng: random.Random) -> str:
    """Near-equilibrium play; the first call in a process solves the game."""
    policy = equilibrium(view.game)[view.info]
    return rng.choices(view.say, [policy[action] for action in view.legal])[0]
