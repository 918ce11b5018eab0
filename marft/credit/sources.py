"""R: the reward column composed from named rewards, r_u = Σ_e w_e(k) · column_e(u), and what happens before summing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from marft.blocks import KL, Attribution, Prepare
from marft.credit import stats
from marft.credit.table import Decisions


def compose(decisions: Decisions, settings: Attribution, kl: KL, progress: float) -> Decisions:
    """Decisions whose reward is the composition that `settings` describe.

    A table that has none of the sources' columns keeps its reward: it was composed before. progress: the share of the
    run that is done, which picks early or late weights. A KL in the reward takes coef · `kl` off where the table has
    that column (the turn's sum of the estimator).
    """
    named = [source for source in settings.sources if source.column in decisions.columns]
    if named:
        decisions = replace(decisions, reward_D=_composed(decisions, settings, progress))
    if kl.where == "reward" and kl.coef and "kl" in decisions.columns:
        decisions = replace(decisions, reward_D=decisions.reward_D - kl.coef * decisions.numbers("kl", "kl.where"))
    return decisions


def _composed(decisions: Decisions, settings: Attribution, progress: float) -> np.ndarray:
    reward_D = np.zeros(len(decisions.reward_D))
    late = progress >= settings.switch
    role_D = None
    for source in settings.sources:
        value_D = decisions.numbers(source.column, "attribution.sources")
        if source.role is not None or source.of_role is not None:
            if role_D is None:
                role_D = decisions.columns.labels("role", "attribution.sources").astype(str)
            if source.of_role is not None:
                episode = decisions.codes["episode"]
                value_D = stats.total(np.where(role_D == source.of_role, value_D, 0.0), episode)
            if source.role is not None:
                value_D = np.where(role_D == source.role, value_D, 0.0)
        weight = source.late if late and source.late is not None else source.weight
        reward_D = reward_D + weight * value_D
    if settings.gate is not None:
        reward_D = np.where(decisions.numbers(settings.gate, "attribution.gate") == 0, 0.0, reward_D)
    return reward_D


def none(decisions: Decisions, settings: Prepare) -> Decisions:
    """Rewards as they are."""
    return decisions


def centre(decisions: Decisions, settings: Prepare) -> Decisions:
    """r − mean over the key's turns; with `scale`, over the unbiased deviation of the batch's tokens, not re-centred.

    From MARSHAL's code: a turn's reward stands on its last token and all other completion tokens carry 0. Rewards
    without a turn are scaled alike and not centred. A table without `tokens` counts one token a turn.
    """
    reward_D, acted_D = decisions.reward_D.copy(), decisions.acted_D
    mine = decisions.take(acted_D)
    reward_D[acted_D] = stats.centre(mine.reward_D, mine.key(settings.key, "prepare.key"))
    if settings.scale and acted_D.any():
        turns = reward_D[acted_D]
        tokens = np.sum(mine.numbers("tokens", "prepare.scale")) if "tokens" in mine.columns else float(len(turns))
        tokens = max(tokens, len(turns))
        largest = np.abs(turns).max() or 1.0
        mean = np.sum(turns / largest) / tokens
        square = np.sum((turns / largest - mean) ** 2) + (tokens - len(turns)) * mean**2
        spread = largest * np.sqrt(square / max(tokens - 1, 1))
        reward_D = reward_D / spread if spread else np.zeros_like(reward_D)
    return replace(decisions, reward_D=reward_D)


PREPARES = {"none": none, "centre": centre}
