"""Cross joint actions: every combination of the seats' completions is played and paid.

A joint action is an episode of the table; `sample` numbers the completions that a seat drew at a state, so the same
(instance, state, step, seat, sample) in several episodes is one completion. In statistics it counts once.
"""

from __future__ import annotations

import numpy as np

from marft.credit import stats
from marft.credit.keys import Codes, combine, compact, factorise
from marft.credit.table import Decisions
from marft.credit.tree import shares

STATE = ("instance", "parent", "step")


def completions(decisions: Decisions, setting: str) -> Codes:
    """Codes of the completions that decisions stand for."""
    sample = factorise(decisions.columns.labels("sample", setting))
    return combine([decisions.key((*STATE, "seat"), setting), sample], len(decisions.clock_D))


def joint_return(return_D: np.ndarray, decisions: Decisions) -> np.ndarray:
    """(D,) Σ over the joint actions that contain the completion, each once, on however many paths it stands.

    A seat that earned without acting said nothing that others could share: it keeps its return.
    """
    total_D = stats.total(return_D * shares(decisions), completions(decisions, "attribution joint"))
    return np.where(decisions.acted_D, total_D, return_D)


def counterfactual_reward(decisions: Decisions) -> np.ndarray:
    """(D,) own reward minus its mean over the seat's completions at this state, own included, with the others fixed.

    Excluding the own one would only scale the result, by k / (k − 1) for k alternatives. A joint action counts once, on
    however many paths it stands. A seat that earned without acting had no alternative: 0.
    """
    completion = compact(completions(decisions, "attribution counterfactual"))
    mark_D = np.where(decisions.acted_D, _scramble(completion.code), np.uint64(0))
    event = decisions.event()
    others_D = _wrapped_total(mark_D, event) - mark_D
    unique, code = np.unique(others_D, return_inverse=True)
    key = combine([decisions.key((*STATE, "seat")), Codes(code, len(unique))], len(code))
    centred_D = stats.centre(decisions.reward_D, key, shares(decisions))
    return np.where(decisions.acted_D, centred_D, 0.0)


def _scramble(code_D: np.ndarray) -> np.ndarray:
    """64 well-mixed bits per code (SplitMix64), so that a sum of them names a set."""
    with np.errstate(over="ignore"):
        x = (code_D.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def _wrapped_total(mark_D: np.ndarray, key: Codes) -> np.ndarray:
    total = np.zeros(key.size, np.uint64)
    with np.errstate(over="ignore"):
        np.add.at(total, key.code, mark_D)
    return total[key.code]
