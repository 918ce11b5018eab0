"""R: which reward a seat is credited with.

An attribution turns decisions into reward streams. With `own` and its kin a stream is one seat's decisions in one
episode (and call); with the team kinds it is the whole episode, one row per step of it, so that a seat's return counts
what the others earned at steps where that seat did not act.
"""

from __future__ import annotations

import numpy as np

from marft.blocks import Attribution
from marft.credit.cross import counterfactual_reward
from marft.credit.debate import debate_scores, influence_reward, margin_reward, quality_reward
from marft.credit.keys import Codes, combine, compact, first_rows
from marft.credit.stream import Stream
from marft.credit.table import Decisions


def own(decisions: Decisions, settings: Attribution) -> Stream:
    """r_u: the seat's own rewards."""
    return _seat_stream(decisions, settings, decisions.reward_D)


def team_sum(decisions: Decisions, settings: Attribution) -> Stream:
    """Σ_j r_j(t): the sum of all seats' rewards at the step."""
    event = compact(decisions.event())
    first_V = first_rows(event)
    reward_V = np.bincount(event.code, decisions.reward_D, event.size)
    return Stream(reward_V, decisions.codes["episode"].code[first_V], decisions.clock_D[first_V], event.code, True)


def team_mean(decisions: Decisions, settings: Attribution) -> Stream:
    """The team's sum over the number of seats that the episode has; a seat that is silent at a step earned 0 then."""
    stream = team_sum(decisions, settings)
    pair = compact(decisions.key(("episode", "seat")))
    seats_E = np.bincount(decisions.codes["episode"].code[first_rows(pair)])
    return stream._replace(reward_V=stream.reward_V / seats_E[stream.segment_V])


def team_local(decisions: Decisions, settings: Attribution) -> Stream:
    """Σ_j r_j(t) + local_u: the team's reward and the seat's own column `local`, or 0 without it (AT-GRPO)."""
    team = team_sum(decisions, settings)
    local_D = decisions.numbers("local", "attribution team_local") if "local" in decisions.columns else 0.0
    return _seat_stream(decisions, settings, team.reward_V[team.row_D] + local_D)


def last_agent(decisions: Decisions, settings: Attribution) -> Stream:
    """r_u for the seat that acts last at the step (by `order`, else by seat), 0 for all others (MARFT, 2504.16129)."""
    event = decisions.event()
    order_D = decisions.numbers("order", "attribution last_agent") if "order" in decisions.columns else None
    seat_D = decisions.codes["seat"].code
    rank_D = np.lexsort((seat_D,) if order_D is None else (seat_D, order_D))
    place_D = np.empty(len(rank_D), np.int64)
    place_D[rank_D] = np.arange(len(rank_D))
    last = np.full(event.size, -1)
    np.maximum.at(last, event.code, np.where(decisions.acted_D, place_D, -1))
    lone_D = last[event.code] < 0  # nobody acted: a reward that stays with whom it was paid to
    return _seat_stream(decisions, settings, np.where(lone_D | (place_D == last[event.code]), decisions.reward_D, 0.0))


def joint(decisions: Decisions, settings: Attribution) -> Stream:
    """r_u; the return is then summed over all joint actions that contain the completion (MAGRPO, 2508.04652)."""
    return own(decisions, settings)


def counterfactual(decisions: Decisions, settings: Attribution) -> Stream:
    """r_u minus its mean over the seat's completions, the others' held fixed (cross mode; COMA, 1705.08926 eq. 4)."""
    return _seat_stream(decisions, settings, counterfactual_reward(decisions))


def margin(decisions: Decisions, settings: Attribution) -> Stream:
    """r + α(r − Q), Q the mean reward of the team's step before (MARTI); a first step keeps r."""
    return _seat_stream(decisions, settings, margin_reward(decisions, settings.alpha))


def quality(decisions: Decisions, settings: Attribution) -> Stream:
    """r + α(Q·r − (1 − Q)(1 − r)), Q as in `margin` (MARTI); a first step keeps r."""
    return _seat_stream(decisions, settings, quality_reward(decisions, settings.alpha))


def debate_score(decisions: Decisions, settings: Attribution) -> Stream:
    """S = (s_ti + Σ_{k>t} γ^(k−t) mean_a s_ka) / Σ_{k≥t} γ^(k−t) (MAPoRL); not shared: the seat's own later scores."""
    return _seat_stream(decisions, settings, debate_scores(decisions, settings.gamma, settings.shared))


def influence(decisions: Decisions, settings: Attribution) -> Stream:
    """r + α·sign(mean_{j≠i}(r_j(t+1) − r_j(t))), nothing more at the last round (UMAD, 2603.01221)."""
    return _seat_stream(decisions, settings, influence_reward(decisions, settings.alpha))


def _seat_stream(decisions: Decisions, settings: Attribution, reward_D: np.ndarray) -> Stream:
    segment = decisions.key(("episode", "seat", "call"), "a call")
    if settings.calls_of is not None and "call" not in decisions.columns and "role" in decisions.columns:
        each_D = decisions.columns.labels("role", "attribution.calls_of").astype(str) == settings.calls_of
        place = Codes(np.where(each_D, np.arange(1, len(each_D) + 1), 0), len(each_D) + 1)
        segment = combine([segment, place], len(each_D))
    return Stream(reward_D, segment.code, decisions.clock_D, slice(None))


ATTRIBUTIONS = {
    "own": own,
    "team_sum": team_sum,
    "team_mean": team_mean,
    "team_local": team_local,
    "last_agent": last_agent,
    "joint": joint,
    "counterfactual": counterfactual,
    "margin": margin,
    "quality": quality,
    "debate_score": debate_score,
    "influence": influence,
}
