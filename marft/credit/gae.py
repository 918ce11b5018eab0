"""G with a critic: generalised advantage estimation along a seat's decisions, or along the chain of all agents.

`value` of a decision is the critic's estimate before it acted. Nothing is bootstrapped after an episode's last
decision. What is earned at a step without a decision counts, discounted, for the decision before it.
"""

from __future__ import annotations

import numpy as np

from marft.blocks import Return
from marft.credit import scan
from marft.credit.keys import compact, first_rows
from marft.credit.stream import Stream
from marft.credit.table import Decisions


def gae(stream: Stream, decisions: Decisions, settings: Return) -> np.ndarray:
    """δ_t = r_t + γ^Δ V_{t+1} − V_t, A_t = δ_t + γ^Δ λ A_{t+1} along the seat's decisions, Δ by the step clock
    (1506.02438). With a team attribution a decision earns all that the team earns until the seat's next one.
    """
    value_D = decisions.numbers("value", "return gae")
    if stream.team:
        return _team_gae(stream, decisions, value_D, settings)
    return _gae(stream.reward_V, value_D, stream.segment_V, stream.clock_V, decisions.acted_D, settings)


def gae_agent_chain(stream: Stream, decisions: Decisions, settings: Return) -> np.ndarray:
    """δ_i = r_i + γV_{i+1} − V_i, A_i = δ_i + γλA_{i+1} over all agents' decisions in a row (MARFT, 2504.16129).

    The chain goes step by step and, inside a step, agent after agent by `order`, else by seat; the last agent of a
    step bootstraps from the first of the next. One link is one γ, whatever the clock says.
    """
    value_D = decisions.numbers("value", f"return {settings.kind}")
    reward_D = stream.reward_V[stream.row_D] if not stream.team else decisions.reward_D
    order_D = decisions.numbers("order", "the chain") if "order" in decisions.columns else np.zeros(len(value_D))
    episode_D = decisions.codes["episode"].code
    idle_D = ~decisions.acted_D  # a step's rewards without a turn stand behind its turns
    chain = np.lexsort((decisions.codes["seat"].code, order_D, idle_D, decisions.clock_D, episode_D))
    place = np.arange(len(chain))
    advantage_D = np.empty(len(chain))
    advantage_D[chain] = _gae(
        reward_D[chain], value_D[chain], episode_D[chain], place, decisions.acted_D[chain], settings, links=True
    )
    return advantage_D


def _gae(reward_V, value_V, segment_V, clock_V, acted_V, settings: Return, links: bool = False) -> np.ndarray:
    """(V,) advantages of the rows that acted, 0 for the others; rows sorted by (segment, clock)."""
    gamma, n = settings.gamma, len(reward_V)
    row_V = np.arange(n)
    start_V = np.maximum.accumulate(np.where(np.diff(segment_V, prepend=-1) != 0, row_V, 0)) if n else row_V
    owner_V = np.maximum.accumulate(np.where(acted_V, row_V, -1)) if n else row_V
    owned_V = owner_V >= start_V
    owner_V = np.maximum(owner_V, 0)
    gap_V = np.zeros(n) if links else np.where(owned_V, clock_V - clock_V[owner_V], 0)
    earned_V = np.bincount(owner_V, np.where(owned_V, np.power(gamma, gap_V) * reward_V, 0.0), n)
    mine_D = np.flatnonzero(acted_V)
    segment_D, value_D = segment_V[mine_D], value_V[mine_D]
    clock_D = np.arange(len(mine_D)) if links else clock_V[mine_D]
    decay_D = scan.decay(segment_D[::-1], -clock_D[::-1], gamma)[::-1]  # γ^Δ to the next decision, 0 at the last
    next_D = np.concatenate([value_D[1:], np.zeros(min(1, len(value_D)))])
    delta_D = earned_V[mine_D] + decay_D * next_D - value_D
    advantage_V = np.zeros(n)
    advantage_V[mine_D] = scan.scan(delta_D[::-1], settings.lam * decay_D[::-1])[::-1]
    return advantage_V


def _team_gae(stream: Stream, decisions: Decisions, value_D: np.ndarray, settings: Return) -> np.ndarray:
    """Every seat of an episode gets a row at each of its steps, with the team's reward."""
    pair = compact(decisions.key(("episode", "seat")))
    episode_P = decisions.codes["episode"].code[first_rows(pair)]
    size_E = np.bincount(stream.segment_V)
    start_E = np.cumsum(size_E) - size_E
    rows_P = size_E[episode_P]
    start_P = np.cumsum(rows_P) - rows_P
    pair_V = np.repeat(np.arange(pair.size), rows_P)
    event_V = np.arange(len(pair_V)) - start_P[pair_V] + start_E[episode_P[pair_V]]
    row_D = start_P[pair.code] + stream.row_D - start_E[decisions.codes["episode"].code]
    value_V, acted_V = np.zeros(len(pair_V)), np.zeros(len(pair_V), bool)
    value_V[row_D], acted_V[row_D] = value_D, decisions.acted_D
    return _gae(stream.reward_V[event_V], value_V, pair_V, stream.clock_V[event_V], acted_V, settings)[row_D]
