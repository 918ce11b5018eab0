"""What peers say of a solution: it earns by its score, its evaluation the rest, and an unreadable score costs (CoMAS).

arXiv 2510.08529: r(solution) = (τ - 1) / 2 for a score τ of 1, 2 or 3, r(evaluation) = 1 - r(solution), and the scorer
gets 0 where its score can be read, else -1. No true answer is needed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from marft.answers import number

if TYPE_CHECKING:
    from marft.episode import Episode, Turn

_SCORE = re.compile(r"<score>([^<>]{0,40})</score>")


def peer_score(
    episode: Episode,
    solver: str = "solver",
    evaluator: str = "evaluator",
    scorer: str = "scorer",
    lowest: float = 1.0,
    highest: float = 3.0,
    unread: float = 0.5,
) -> dict[str, list[float]]:
    """A solution and its evaluation share 1 by the score that follows them, each at its own step; see the module.

    solver, evaluator, scorer: roles. A score belongs to the last solution and the last evaluation before it; what is
    followed by none is paid nothing. lowest, highest: bounds of a score, which stands in the last <score>…</score> of
    the text. unread: what the solution is worth where the score is none, so that the two still share 1 (our choice).
    """
    if not lowest < highest:
        raise ValueError(f"peer_score: lowest must be below highest, not {lowest:g} and {highest:g}")
    given = episode.facts.get("roles") or {}
    roles = {*given.values(), *(turn.marks.get("role") for turn in episode.turns)}
    for option, name in (("solver", solver), ("evaluator", evaluator), ("scorer", scorer)):
        if name not in roles:
            known = ", ".join(sorted(str(role) for role in roles if role is not None)) or "no roles"
            raise ValueError(f"peer_score: options.{option}: no role {name!r} in {episode.game}, but {known}")
    paid = {seat: [0.0] * len(episode.rewards) for seat in episode.seats}
    last: dict[str, Turn] = {}
    for turn in episode.turns:
        role = str(turn.marks.get("role", given.get(turn.seat)))
        if role != scorer:
            last[role] = turn
            continue
        score = _score(turn.text, lowest, highest)
        worth = unread if score is None else (score - lowest) / (highest - lowest)
        paid[turn.seat][turn.step] -= float(score is None)
        for one, value in ((solver, worth), (evaluator, 1.0 - worth)):
            if found := last.pop(one, None):
                paid[found.seat][found.step] += value
    return paid


def _score(text: str, lowest: float, highest: float) -> float | None:
    """The score in a text, None where none within bounds stands there."""
    found = _SCORE.findall(text)
    value = number(found[-1]) if found else None
    return float(value) if value is not None and lowest <= value <= highest else None
