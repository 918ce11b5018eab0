"""Ratings out of who beat whom: Bradley–Terry, openskill's Plackett–Luce, and α-rank.

All take a cross-play table; none plays anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_expit

from marft.errors import MarftError

ELO = 400 / np.log(10)
"""Points of a rating by which the odds grow by e."""
MIDDLE = 1500.0


def bradley_terry(wins_AA: np.ndarray, *, draws_AA: np.ndarray | None = None, prior: float = 1.0) -> np.ndarray:
    """Ratings (A,), 400 points a factor of ten in the odds, 1500 on average.

    wins_AA[i, j]: how often i beat j. draws_AA: symmetric, each counts half a win for both. prior: so many draws of
    everyone against an average player (Newman 2023, section 3.2), without which whoever never loses has no finite
    rating. The most likely ratings under it; the log posterior is concave, so there is one best.
    """
    wins_AA = np.asarray(wins_AA, dtype=float).copy()
    if wins_AA.ndim != 2 or wins_AA.shape[0] != wins_AA.shape[1] or (wins_AA < 0).any():
        raise ValueError(f"wins must be a square table of counts, got shape {wins_AA.shape}")
    if prior <= 0:
        raise ValueError(f"prior must be above 0, got {prior}: a player that never loses has no rating without it")
    if draws_AA is not None:
        wins_AA += np.asarray(draws_AA, dtype=float) / 2
    np.fill_diagonal(wins_AA, 0.0)
    games_AA = wins_AA + wins_AA.T

    def surprise(x_A: np.ndarray) -> tuple[float, np.ndarray]:
        """Minus the log posterior, and its derivative."""
        apart_AA = x_A[:, None] - x_A
        value = -(wins_AA * log_expit(apart_AA)).sum() - prior / 2 * (log_expit(x_A) + log_expit(-x_A)).sum()
        return float(value), (games_AA * expit(apart_AA) - wins_AA).sum(1) + prior * (expit(x_A) - 0.5)

    def curvature(x_A: np.ndarray) -> np.ndarray:
        chance_AA = expit(x_A[:, None] - x_A)
        pull_AA = games_AA * chance_AA * (1 - chance_AA)
        return np.diag(pull_AA.sum(1) + prior * expit(x_A) * expit(-x_A)) - pull_AA

    found = minimize(surprise, np.zeros(len(wins_AA)), jac=True, hess=curvature, method="trust-exact")
    if not found.success:
        raise MarftError(f"ratings: Bradley–Terry found no best ratings: {found.message}")
    return ELO * (found.x - found.x.mean()) + MIDDLE


def plackett_luce(matches: Sequence[Mapping[str, float]]) -> dict[str, tuple[float, float]]:
    """(mean, deviation) of each player's skill by openskill's Plackett–Luce model, 25 and 25/3 for a new one.

    matches: of each game, player -> what it earned, in the order they were played; more is better, the same is a draw.
    """
    try:
        from openskill.models import PlackettLuce
    except ImportError as error:
        raise MarftError("ratings: openskill is not installed; pip install 'marft[eval]'") from error
    model = PlackettLuce()
    skill = {name: model.rating(name=name) for match in matches for name in match}
    for match in matches:
        names = list(match)
        rated = model.rate([[skill[name]] for name in names], scores=[float(match[name]) for name in names])
        skill |= {name: own for name, (own,) in zip(names, rated, strict=True)}
    return {name: (float(one.mu), float(one.sigma)) for name, one in skill.items()}


def alpha_rank(payoff_AA: np.ndarray, alpha: float = 100.0) -> np.ndarray:
    """(A,) the share of time that evolution spends with each strategy of a symmetric two-player game (Omidshafiei et
    al. 2019), by OpenSpiel: strategies that beat each other in a circle share, where a rating would put one on top.

    payoff_AA[i, j]: what i earns against j. alpha: how strongly selection looks at payoffs, which are scaled to 0..1.
    """
    try:
        from open_spiel.python.egt import alpharank
    except ImportError as error:
        raise MarftError("ratings: OpenSpiel is not installed; pip install 'marft[games]'") from error
    payoff_AA = np.asarray(payoff_AA, dtype=float)
    spread = payoff_AA.max() - payoff_AA.min()
    scaled_AA = (payoff_AA - payoff_AA.min()) / spread if spread else np.zeros_like(payoff_AA)
    with np.errstate(over="ignore"):  # exp of a large payoff difference: the chance to take over is then 0
        _, _, share_A, *_ = alpharank.compute([scaled_AA], m=50, alpha=alpha)
    return np.asarray(share_A, dtype=float)
