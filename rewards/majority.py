"""Rewards without labels: agreeing with what most say, every voice alike or weighed by how sure of itself it is."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from typing import Literal

from marft.answers import answer_key
from marft.rewards.grading import Case, group_reward, said


@group_reward
def majority(cases: Sequence[Case], over: Literal["group", "episode"] = "group") -> list[float]:
    """1 for the final answer that most give, 0 for others and for texts without one; no true answer is needed.

    over: who is counted, the texts of all episodes of a group or of one episode. Of several answers with equally many
    voices each earns its part, 1 / their number.
    """
    answers = _answers(cases)
    votes: dict[Hashable, Counter] = defaultdict(Counter)
    places = [None if over == "group" else id(case.episode) for case in cases]
    for place, answer in zip(places, answers, strict=True):
        if answer is not None:
            votes[place][answer] += 1
    return [_part(answer, votes[place]) for place, answer in zip(places, answers, strict=True)]


@group_reward
def consensus(cases: Sequence[Case], by: Literal["policy", "seat"] = "policy") -> list[float]:
    """1 for the answer with the most weight in the group: each voice counts as its model agrees with itself (RLCCF).

    arXiv 2508.12338: SC_n is the share of model n's texts that give its own most frequent answer, and the consensus is
    argmax_a of the sum over models n and texts k of SC_n · 1[a = answer k of n]. by: what a model is, the policy that
    spoke or the seat. Texts without an answer lower SC_n and earn 0; a tie is shared as in `majority`.
    """
    answers = _answers(cases)
    models = [case.turn.seat if by == "seat" else case.turn.agent or case.turn.policy for case in cases]
    own: dict[str, Counter] = defaultdict(Counter)
    for model, answer in zip(models, answers, strict=True):
        own[model][answer] += 1
    sure = {
        model: max((count for answer, count in counts.items() if answer is not None), default=0) / counts.total()
        for model, counts in own.items()
    }
    weight: dict[Hashable, float] = defaultdict(float)
    for model, counts in own.items():
        for answer, count in counts.items():
            if answer is not None:
                weight[answer] += sure[model] * count
    return [_part(answer, weight) for answer in answers]


def _answers(cases: Sequence[Case]) -> list[Hashable]:
    found = (said(case.turn) for case in cases)
    return [None if answer is None else answer_key(answer) for answer in found]


def _part(answer: Hashable, weight: Mapping[Hashable, float]) -> float:
    """The share in the first place: 1 where the answer stands there alone, 0 where it does not."""
    if answer is None:
        return 0.0
    most = max(weight.values())
    first = [one for one, value in weight.items() if value >= most * (1 - 1e-12)]
    return 1.0 / len(first) if answer in first else 0.0
