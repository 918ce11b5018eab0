"""How much each turn raised the policy's own probability of the true answer (IGPO, arXiv 2510.14967)."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from marft.rewards.grading import truth

if TYPE_CHECKING:
    from marft.episode import Episode
    from marft.scoring import Scorer


def information_gain(
    episodes: Sequence[Episode],
    scorer: Scorer,
    answer: str = "answer",
    prefix: str = "",
    outcome: Literal["f1", "payoff"] = "f1",
) -> list[dict[str, list[float]]]:
    """P_{t+1} − P_t at each turn's step, and the outcome at the seat's last turn, in the gain's place.

    P_t is exp of the mean log-prob of the true answer's tokens, teacher-forced at turn t's prompt (so what the turn
    before brought to light counts for it), after the fixed text `prefix`. answer: the key of the episode's facts that
    holds the true answer. outcome: word-level `f1` of the seat's last text, or the game's own `payoff`. Only turns of
    learners are paid: a policy is asked about its own belief.
    """
    asked: dict[str, list[tuple[int, Any, list[int]]]] = {}
    places: list[dict[str, list]] = []
    for number, episode in enumerate(episodes):
        turns: dict[str, list] = {}
        for seat in episode.seats:
            for turn, context in episode.contexts(seat):
                if turn.agent is not None:
                    turns.setdefault(seat, []).append(turn)
                    asked.setdefault(turn.agent, []).append((number, turn, list(context)))
        places.append(turns)
    belief: dict[int, float] = {}
    for agent, questions in asked.items():
        lead = scorer.encode(prefix, agent) if prefix else []
        prompts = [context + lead for _, _, context in questions]
        truths = [scorer.encode(truth(episodes[number], answer), agent) for number, _, _ in questions]
        for (_, turn, _), logp_N in zip(questions, scorer.score(agent, prompts, truths), strict=True):
            belief[id(turn)] = math.exp(logp_N.mean())
    paid = []
    for episode, turns in zip(episodes, places, strict=True):
        gains = {seat: [0.0] * len(episode.rewards) for seat in turns}
        for seat, own in turns.items():
            for turn, later in zip(own, own[1:], strict=False):
                gains[seat][turn.step] += belief[id(later)] - belief[id(turn)]
            last = own[-1]
            right = truth(episode, answer)
            gains[seat][last.step] += f1(last.text, right) if outcome == "f1" else episode.returns()[seat]
        paid.append(gains)
    return paid


def f1(text: str, truth: str) -> float:
    """Harmonic mean of precision and recall over words, case and punctuation aside; 0 where no word is shared."""
    said, true = (Counter(re.findall(r"\w+", one.lower())) for one in (text, truth))
    shared = sum((said & true).values())
    return 2 * shared / (sum(said.values()) + sum(true.values())) if shared else 0.0
