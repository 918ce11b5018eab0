"""What credit remembers from batch to batch: plain JSON values in one dict, read and replaced by each call.

    {"ema": {game: {seat: b}}, "capability": {agent: [mean returns, newest last]}, "entropy": {sum, count},
     "progress": share of the run}

Functions here change the dict they are given; `marft.credit.assess` hands them a copy and returns it.
"""

from __future__ import annotations

import numpy as np

from marft.credit import scan
from marft.credit.keys import compact, first_rows
from marft.credit.table import Decisions


def running_mean(
    state: dict, return_D: np.ndarray, decisions: Decisions, decay: float, update_first: bool
) -> np.ndarray:
    """(D,) the running mean of each decision's game and seat as its episode met it; writes where it ends."""
    bank = state.setdefault("ema", {})
    pair = compact(decisions.key(("episode", "game", "seat")))
    if not len(return_D):
        return np.zeros(0)
    first_P = first_rows(pair)
    stream = compact(decisions.key(("game", "seat")))
    order = np.argsort(stream.code[first_P], kind="stable")  # by stream, then by episode
    stream_P, value_P = stream.code[first_P][order], return_D[first_P][order]
    new_P = np.diff(stream_P, prepend=-1) != 0
    names = _names(decisions, first_rows(stream))
    start_S = np.array([bank.get(game, {}).get(seat, 0.0) for game, seat in names])
    moved_P = (1 - decay) * value_P + np.where(new_P, decay * start_S[stream_P], 0.0)
    after_P = scan.scan(moved_P, np.where(new_P, 0.0, decay))
    before_P = np.where(new_P, start_S[stream_P], np.concatenate([[0.0], after_P[:-1]]))
    for (game, seat), last in zip(
        names, np.flatnonzero(np.append(new_P[1:], True)), strict=True
    ):  # seats, not episodes
        bank.setdefault(game, {})[seat] = float(after_P[last])
    mean_P = np.empty(len(order))
    mean_P[order] = after_P if update_first else before_P
    return mean_P[pair.code]


def _names(decisions: Decisions, rows: np.ndarray) -> list[tuple[str, str]]:
    found = []
    for name in ("game", "seat"):
        known = name in decisions.columns
        found.append(decisions.columns.labels(name, "ema", rows).astype(str) if known else np.full(len(rows), name))
    return [(str(game), str(seat)) for game, seat in zip(*found, strict=True)]


def note_capability(state: dict, return_D: np.ndarray, decisions: Decisions, window: int) -> None:
    """Append each agent's mean return per episode and seat, and keep the last `window` of them."""
    bank = state.setdefault("capability", {})
    pair = compact(decisions.key(("episode", "seat", "agent")))
    if not len(return_D):
        return
    first_P = first_rows(pair)
    agent = compact(decisions.codes["agent"])
    agent_P = agent.code[first_P]
    mean_A = np.bincount(agent_P, return_D[first_P], agent.size) / np.bincount(agent_P, minlength=agent.size)
    for name, mean in zip(agent_names(decisions, first_rows(agent)), mean_A, strict=True):  # agents are few
        bank[name] = [*bank.get(name, []), float(mean)][-window:]


def agent_names(decisions: Decisions, rows: np.ndarray) -> list[str]:
    """The agents of some decisions; a table without agents has the seats in their place."""
    name = "agent" if "agent" in decisions.columns else "seat"
    if name not in decisions.columns:
        return ["agent"] * len(rows)
    return [str(value) for value in decisions.columns.labels(name, "capability", rows)]


def capability_ratio(state: dict, of: str, to: str) -> float:
    """ω(of, to) = P̂_of / P̂_to of the recent mean returns (HACPO, 2603.02604).

    1 where the ratio has no meaning: P̂_to not positive, P̂_of negative, or an agent never seen.
    """
    bank = state.get("capability", {})
    if of == to or not bank.get(of) or not bank.get(to):
        return 1.0
    mine, other = (sum(bank[name]) / len(bank[name]) for name in (of, to))
    return mine / other if mine >= 0 and other > 0 else 1.0


def capability(state: dict, decisions: Decisions) -> np.ndarray:
    """(A, A) ω between all agent codes of the table."""
    agent = decisions.codes["agent"]
    omega_AA = np.ones((agent.size, agent.size))
    used = compact(agent)
    if not len(agent.code):
        return omega_AA
    rows = first_rows(used)
    names = agent_names(decisions, rows)
    table = [[capability_ratio(state, mine, other) for other in names] for mine in names]
    omega_AA[np.ix_(agent.code[rows], agent.code[rows])] = table
    return omega_AA


def note_entropy(state: dict, mean_entropy: float) -> float:
    """Append an update's mean entropy; returns the mean over all updates before this one (the first: its own)."""
    past = state.setdefault("entropy", {"sum": 0.0, "count": 0})
    history = past["sum"] / past["count"] if past["count"] else float(mean_entropy)
    past["sum"] += float(mean_entropy)
    past["count"] += 1
    return history
