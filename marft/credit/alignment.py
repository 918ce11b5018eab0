"""How the other seats' advantages enter mine. The others are all other seats of the episode that decide at the step."""

from __future__ import annotations

import numpy as np

from marft.blocks import Alignment
from marft.credit import scan, stats
from marft.credit.table import Decisions


def none(advantage_D: np.ndarray, decisions: Decisions, settings: Alignment) -> np.ndarray:
    """A_i, alone."""
    return advantage_D


def plain_sum(advantage_D: np.ndarray, decisions: Decisions, settings: Alignment) -> np.ndarray:
    """A_i + Σ_j A_j: every seat pursues the sum (the prosocial baseline of arXiv 2511.19405)."""
    return advantage_D + _others(advantage_D, decisions)


def ad_align(advantage_D: np.ndarray, decisions: Decisions, settings: Alignment) -> np.ndarray:
    """Advantage Alignment (arXiv 2406.14662; in this form arXiv 2511.19405).

    A*_t = A^i_t + β w_t Σ_{j≠i} A^j_t with w_t = γ Σ_{k<t} γ_a^(t−k) A^i_k over the seat's own decisions k. With
    `include_now` the sum runs to k = t and the leading γ falls away, as in the authors' code. Options apply in this
    order: sign, clip, divide by t + 1, first weight 1, all on w; then centre and whiten, on A*, over the decisions of
    the batch with the same seat (and the same step, where they go by step).
    """
    weight_D = _shape(_weights(advantage_D, decisions, settings), decisions, settings)
    aligned_D = advantage_D + settings.beta * weight_D * _others(advantage_D, decisions)
    if settings.centre == "step":
        aligned_D = stats.centre(aligned_D, decisions.key(("game", "seat", "step")))
    if settings.whiten != "none":
        key = decisions.key(("game", "seat", "step") if settings.whiten == "step" else ("game", "seat"))
        aligned_D = stats.standardise(stats.centre(aligned_D, key), stats.deviation(aligned_D, key, True), eps=1e-9)
    return aligned_D


def ad_align_original(advantage_D: np.ndarray, decisions: Decisions, settings: Alignment) -> np.ndarray:
    """A_t + β/t · (Σ_{k<t} A^i_k) · Σ_{j≠i} A^j_t, undiscounted; nothing is added at step 0 (2406.14662's code)."""
    decay_D = scan.decay(decisions.key(("episode", "seat")).code, decisions.clock_D, 1.0)
    past_D = scan.scan(advantage_D, decay_D)
    before_D = decay_D * np.concatenate([np.zeros(min(1, len(past_D))), past_D[:-1]])
    weight_D = before_D / np.maximum(decisions.clock_D, 1)
    return advantage_D + settings.beta * weight_D * _others(advantage_D, decisions)


def _others(advantage_D: np.ndarray, decisions: Decisions) -> np.ndarray:
    return stats.total(advantage_D, decisions.event()) - advantage_D


def _weights(advantage_D: np.ndarray, decisions: Decisions, settings: Alignment) -> np.ndarray:
    decay_D = scan.decay(decisions.key(("episode", "seat")).code, decisions.clock_D, settings.gamma_a)
    past_D = scan.scan(advantage_D, decay_D)
    if settings.include_now:
        return past_D
    # Shifted by one row and decayed once more, rather than past − now, which would lose digits after a large A.
    before_D = np.concatenate([np.zeros(min(1, len(past_D))), past_D[:-1]])
    return settings.gamma * decay_D * before_D


def _shape(weight_D: np.ndarray, decisions: Decisions, settings: Alignment) -> np.ndarray:
    if settings.sign:
        weight_D = np.sign(weight_D)
    if settings.clip is not None:
        weight_D = np.clip(weight_D, -settings.clip, settings.clip)
    if settings.divide_by_step:
        weight_D = weight_D / (decisions.clock_D + 1)
    if settings.first_weight_one:  # a seat's first decision of the episode, at whatever step that is
        segment_D = decisions.key(("episode", "seat")).code
        weight_D = np.where(np.diff(segment_D, prepend=-1) != 0, 1.0, weight_D)
    return weight_D


ALIGNMENTS = {"none": none, "sum": plain_sum, "ad_align": ad_align, "ad_align_original": ad_align_original}
