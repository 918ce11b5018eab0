"""A team against one of its agents alone, and against the majority of that agent's votes, at what the team spends.

Cost is tokens sampled per question, by all seats. The majority is of as many answers as cost what the team does, at
least one, at most as many as were asked for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from marft.answers import same_answer
from marft.episode import Episode
from marft.errors import RecipeError
from marft.eval.measure import Measured, averaged, table_metrics, ways_of
from marft.eval.stats import Numbers, resampled
from marft.games import find_game
from marft.games.debate_metrics import majority

ACCURACIES = ("majority_accuracy", "judge_accuracy", "final_accuracy", "accuracy", "solved")
"""What counts as a team's answer, the first that its game measures."""


def tokens_of(episode: Episode) -> int:
    """Tokens that were sampled in it; an endpoint's are not known and count as none."""
    return sum(len(turn.completion_ids) for turn in episode.turns)


def look_at_answers(
    one: Measured, episodes: Sequence[Episode], settings: dict[str, Any], seed: int
) -> tuple[Numbers, list[Numbers]]:
    """The team: accuracy, tokens."""
    game, ways = find_game(one.match.game), ways_of(one.pair, one.match, episodes)

    def statistic(drawn: Sequence[int]) -> Numbers:
        found = []
        for seats, rows in ways:
            chosen = [episode for index in drawn for episode in rows[index]]
            metrics = table_metrics(game, seats, chosen)
            key = next((name for name in ACCURACIES if not math.isnan(metrics.get(name, math.nan))), None)
            if key is None:
                raise RecipeError(f"eval: {one.match.game} measures no accuracy; reasoning needs a game with answers")
            found.append({"accuracy": metrics[key], "tokens": float(np.mean([tokens_of(one) for one in chosen]))})
        return averaged(found)

    return resampled(statistic, one.match.instances, settings["resamples"], seed)


def look_at_votes(
    one: Measured, episodes: Sequence[Episode], budget: float, settings: dict[str, Any], seed: int
) -> tuple[Numbers, list[Numbers]]:
    """One agent: accuracy and tokens of an answer; majority, majority_tokens, votes of as many as the budget pays."""
    ((_, rows),) = ways_of(one.pair, one.match, episodes)
    most = one.match.seeds // settings["seeds"]
    cost = float(np.mean([tokens_of(episode) for own in rows for episode in own]))
    votes = min(most, max(1, round(budget / cost))) if cost else 1
    table = np.array([_of_instance(own, votes, most) for own in rows])

    def statistic(drawn: Sequence[int]) -> Numbers:
        accuracy, tokens, right, spent = table[list(drawn)].mean(0).tolist()
        return {"accuracy": accuracy, "tokens": tokens, "majority": right, "majority_tokens": spent, "votes": votes}

    return resampled(statistic, one.match.instances, settings["resamples"], seed)


def _of_instance(own: Sequence[Episode], votes: int, most: int) -> tuple[float, float, float, float]:
    """(right, tokens) of single answers, and (right, tokens) of the majority, over the sampling seeds."""
    truth = own[0].facts["answer"]
    answers = [[turn.action["answer"] for turn in one.turns][-1] for one in own]
    tokens = [tokens_of(one) for one in own]
    groups = [slice(start, start + votes) for start in range(0, len(own), most)]
    return (
        float(np.mean([same_answer(answer, truth) for answer in answers])),
        float(np.mean(tokens)),
        float(np.mean([same_answer(majority(answers[group]), truth) for group in groups])),
        float(np.mean([sum(tokens[group]) for group in groups])),
    )
