"""Warnings that know the field: settings that work and do not do what one would think."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from marft.blocks import Algorithm
from marft.credit.couplings import Facts
from marft.credit.pipeline import assess
from marft.credit.table import collapse
from marft.errors import RecipeError

LONG_ROW = 256
TIGHT_STOP = 1e-4


def warnings_for(
    algorithm: Algorithm, facts: Facts | Mapping[str, Any], advantage_U: np.ndarray | None = None
) -> list[str]:
    """What a user should know about these settings, one sentence each, settings named.

    facts: a recipe's `Facts`, or a turn table, which tells about its groups and about this batch's advantages
    (`advantage_U`, worked out anew where they are not given).
    """
    if not isinstance(facts, Facts):
        return [*_of_table(algorithm, facts, advantage_U), *_of_settings(algorithm)]
    found = _of_settings(algorithm)
    if facts.staleness:
        found.append(
            f"rollout.max_staleness is {facts.staleness}: what is trained on may be that many versions old, which "
            f"off_policy {algorithm.off_policy.kind} corrects for"
        )
    grouped = algorithm.baseline.kind in GROUPED and "instance" in algorithm.baseline.key
    if grouped and facts.group_size == 1 and not facts.branches:
        found.append(
            "rollout.group_size is 1: groups of one have nobody to compare with, so baseline gives advantage 0"
        )
    if algorithm.alignment.kind in ("ad_align", "ad_align_original") and facts.steps == 1:
        found.append(_ONE_STEP.format(algorithm.alignment.kind))
    if algorithm.ratio.kind == "action" and facts.row_tokens is not None and facts.row_tokens > LONG_ROW:
        found.append(
            f"ratio action multiplies up to {facts.row_tokens} token ratios (sampling.max_new_tokens): it leaves the "
            "clip range at once; turn or sequence take the geometric mean"
        )
    keys = {*algorithm.baseline.key} if algorithm.baseline.kind in GROUPED else set()
    if keys & {"node", "parent"} and not facts.branches:
        found.append(
            "baseline.key parent compares samples of one state, but rollout.plan is flat: the step stands for the state"
        )
    return found


GROUPED = ("mean", "loo", "max", "unique_mean")
_ONE_STEP = "alignment {} weighs by a seat's past advantages: in a one-step game there are none, and it does nothing"


def _of_settings(algorithm: Algorithm) -> list[str]:
    found, base, norm = [], algorithm.baseline, algorithm.normalise
    same = norm.kind == "whiten" and not set(base.key) - {"batch"}
    if norm.kind == "whiten" and same and base.kind in ("mean", "loo", "max"):
        found.append(f"normalise whiten takes the batch's mean again: baseline {base.kind} over the batch is cancelled")
    if (
        norm.kind == "std"
        and base.kind == "none"
        and algorithm.return_.kind not in ("gae", "gae_agent_chain", "gae_token")
    ):
        found.append("normalise std divides without subtracting: baseline none leaves returns with their mean")
    if norm.kind == "std" and algorithm.update.kind == "reverse_turns":
        found.append(
            "update reverse_turns does not converge with a group deviation (SeeUPO): set normalise whiten or none"
        )
    stop = algorithm.update.kl_stop
    if stop is not None and stop < TIGHT_STOP:
        found.append(f"update.kl_stop {stop:g} is so tight that the policy hardly steps; 0.01 is usual")
    if algorithm.kl.coef and algorithm.kl.kind == "k1" and algorithm.kl.where == "loss":
        found.append("kl k1 in the loss has no gradient on average: take k2 or k3, or put it into the reward")
    if base.kind == "mean" and "role" in base.key and "instance" not in base.key:
        found.append("baseline.key role without instance mixes tasks: add instance")
    return found


def _of_table(algorithm: Algorithm, table: Mapping[str, Any], advantage_U: np.ndarray | None) -> list[str]:
    found = []
    decisions, _ = collapse(table)
    if not len(decisions.clock_D):
        return ["the batch has no turns"]
    acted = decisions.take(decisions.acted_D)
    base = algorithm.baseline
    if base.kind in GROUPED and len(acted.clock_D):
        group = acted.key(base.key, "baseline.key").code
        if base.kind == "loo":  # whose members are episodes
            group = np.unique(np.stack([group, acted.codes["episode"].code]), axis=1)[0]
        size = np.bincount(group)
        alone, groups = int((size == 1).sum()), int((size > 0).sum())
        if alone:
            found.append(f"{alone} of {groups} groups of baseline.key {list(base.key)} have one member: advantage 0")
    if algorithm.alignment.kind in ("ad_align", "ad_align_original") and decisions.clock_D.max() == 0:
        found.append(_ONE_STEP.format(algorithm.alignment.kind))
    try:
        if advantage_U is None:
            advantage_U = assess(algorithm, table).advantage_U
        if not advantage_U.any():
            found.append("every advantage of the batch is 0: nothing will be learned from it; are all rewards equal?")
    except RecipeError:
        pass  # the settings need a column that this table lacks, which `advantages` says better
    return found
