"""Spread: turns to tokens, and the one return that is estimated token by token.

Every completion token of a decision's turns carries the decision's advantage. `gae_token` instead runs the chain of
MARFT over tokens, so that each has an advantage of its own.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from marft.blocks import Algorithm
from marft.credit.columns import missing
from marft.credit.gae import _gae
from marft.credit.pipeline import assess, attribute, check_finite, evaluate
from marft.credit.presets import algorithm
from marft.credit.table import Decisions, collapse


def token_advantages(
    settings: str | Algorithm | Mapping[str, Any],
    table: Mapping[str, Any],
    turn_N: Any,
    value_N: Any = None,
    state: dict[str, Any] | None = None,
) -> np.ndarray:
    """The advantage of each completion token, (N,) float64.

    turn_N: the row of `table` whose completion a token belongs to; the tokens of a turn stand in their order. value_N:
    the critic's value at each token, before it was sampled; only `gae_token` reads it. state: as for `advantages`.

    gae_token: δ_n = r_n + γV_{n+1} − V_n and A_n = δ_n + γλA_{n+1} over all tokens of an episode, step by step and
    agent after agent inside a step; a turn's reward stands on its last token (MARFT, 2504.16129). Normalisation
    then runs over tokens.
    """
    blocks, turn_N = algorithm(settings), np.asarray(turn_N, np.int64)
    if blocks.return_.kind != "gae_token":
        credit = assess(blocks, table, state)
        new_state, advantage_N = credit.state, credit.advantage_U[turn_N]
    else:
        if value_N is None:
            raise missing("value_N", table, "return gae_token, as an argument,")
        new_state = copy.deepcopy(state or {})
        with np.errstate(over="ignore", invalid="ignore"):
            advantage_N = _by_token(blocks, table, turn_N, np.asarray(value_N, np.float64), new_state)
    if state is not None:
        state.clear()
        state.update(new_state)
    return advantage_N


def on_last_token(reward_U: Any, turn_N: Any) -> np.ndarray:
    """(N,) rewards of turns on the last token of each, 0 on all others; tokens of a turn stand together."""
    reward_U, turn_N = np.asarray(reward_U, np.float64), np.asarray(turn_N, np.int64)
    last_N = np.append(turn_N[1:] != turn_N[:-1], True)[: len(turn_N)]
    return np.where(last_N, reward_U[turn_N], 0.0)


def token_returns(
    blocks: Algorithm, table: Mapping[str, Any], turn_N: np.ndarray, value_N: np.ndarray, state: dict
) -> tuple[Decisions, np.ndarray, np.ndarray]:
    """The table's decisions, (N,) GAE of each token before any normalisation, and the decision each belongs to."""
    everything, decision_U = collapse(table)
    everything, stream = attribute(blocks, everything, state)
    reward_D = stream.reward_V[stream.row_D] if not stream.team else everything.reward_D
    decision_N = decision_U[turn_N]
    silent_D = np.setdiff1d(np.arange(len(reward_D)), decision_N)  # rewards without a token
    owner_V = np.concatenate([decision_N, silent_D])
    token_V = np.concatenate([np.arange(len(turn_N)), np.full(len(silent_D), -1)])
    real_V = token_V >= 0
    chain = _chain_order(everything, owner_V, np.concatenate([turn_N, np.zeros_like(silent_D)]), token_V)
    owner_C, real_C = owner_V[chain], real_V[chain]
    last_C = np.append(owner_C[1:] != owner_C[:-1], True)[: len(chain)]
    value_V = np.concatenate([value_N, np.zeros(len(silent_D))])
    episode_C = everything.codes["episode"].code[owner_C]
    reward_C = np.where(last_C, reward_D[owner_C], 0.0)
    place_C = np.arange(len(chain))
    return_V = np.empty(len(chain))
    return_V[chain] = _gae(reward_C, value_V[chain], episode_C, place_C, real_C, blocks.return_, links=True)
    return everything, return_V[: len(turn_N)], decision_N


def _by_token(blocks: Algorithm, table: Mapping[str, Any], turn_N: np.ndarray, value_N: np.ndarray, state: dict):
    everything, return_N, decision_N = token_returns(blocks, table, turn_N, value_N, state)
    tokens = replace(everything.take(decision_N), count_D=np.ones(len(decision_N)))
    advantage_N, _ = evaluate(blocks, return_N, tokens, state)
    check_finite(advantage_N, everything.reward_D)
    return advantage_N


def _chain_order(decisions: Decisions, owner_V: np.ndarray, turn_V: np.ndarray, token_V: np.ndarray) -> np.ndarray:
    """Tokens by episode, step, order, seat, turn and place in the turn; rewards without a token last in their step."""
    has_order = "order" in decisions.columns
    order_D = decisions.numbers("order", "the chain") if has_order else np.zeros(len(decisions.clock_D))
    silent_V = token_V < 0
    keys = (token_V, turn_V, decisions.codes["seat"].code[owner_V], order_D[owner_V], silent_V)
    return np.lexsort((*keys, decisions.clock_D[owner_V], decisions.codes["episode"].code[owner_V]))
