"""Which blocks go together, checked when a recipe is read; and advice about those that go together badly.

Pure functions of settings and facts. `OFFERED` is what the trainer of this version can do; whoever teaches it more adds
the word here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from marft.blocks import Algorithm
from marft.errors import RecipeError

OFFERED: frozenset[str] = frozenset({"ratio_levels"})

NEEDS = {
    "critic": "a critic's values, the column `value`",
    "tree": "a sampling plan that branches, the columns `node` and `parent`",
    "cross": "cross joint actions, the column `sample`",
    "scoring": "the scoring service's log-probs",
    "sequential": "updates one after another with refreshed log-probs",
    "round_robin": "one agent per update",
    "state": "credit's memory, kept in checkpoints",
    "shared_rollouts": "agents that learn from each other's rows",
    "kl_in_reward": "log-probs of the anchor before credit, the column `kl`",
    "kl_stop": "passes that stop at an approximate KL",
    "anchor": "an anchor other than the base",
    "entropy_history": "the running mean of entropies",
    "clip_correction": "the gradient of the clipping bias",
    "ratio_levels": "row and turn ids in the loss",
    "nll": "the turns' mean negative log-probs, the column `nll`",
    "roles": "functional groups, the column `role`",
    "observations": "labels of what a seat saw, the column `observation`",
    "attempts": "several attempts an episode, the column `attempt`",
    "copies": "rows that are trained on several times or not at all",
}
"""What a setting may ask of a trainer, and what that means."""


@dataclass(frozen=True)
class Facts:
    """What a recipe says besides its algorithm; None where it does not say.

    agents_on_a_step: seats with a learning or observed policy that may act at one step. steps: of an episode.
    sequential: whether updates follow each other with refreshed log-probs.
    """

    seats: int = 2
    group_size: int = 8
    steps: int | None = None
    minibatches: int = 1
    epochs: int = 1
    row_tokens: int | None = None
    offered: frozenset[str] = OFFERED


def needs_of(algorithm: Algorithm) -> tuple[str, ...]:
    """What the algorithm asks of a trainer, words of `NEEDS`, in their order."""
    keys = {*algorithm.baseline.key, *algorithm.prepare.key}
    if algorithm.normalise.kind == "std":
        keys |= set(algorithm.normalise.key)
    kinds = {transform.kind for transform in algorithm.transforms}
    ratio, update = algorithm.ratio, algorithm.update.kind
    asked = {
        "critic": algorithm.return_.kind.startswith("gae") or algorithm.baseline.kind == "critic",
        "tree": algorithm.return_.kind == "tree" or bool(keys & {"node", "parent"}),
        "cross": algorithm.attribution.kind in ("joint", "counterfactual"),
        "sequential": update in ("sequential", "reverse_turns"),
        "round_robin": update == "round_robin",
        "state": algorithm.baseline.kind == "ema_per_seat" or algorithm.baseline.kernel == "capability",
        "shared_rollouts": "capability" in kinds or ratio.stepwise or ratio.foreign_power > 0,
        "kl_in_reward": algorithm.kl.where == "reward" and algorithm.kl.coef > 0,
        "kl_stop": algorithm.update.kl_stop is not None,
        "anchor": algorithm.kl.coef > 0 and algorithm.kl.anchor != "base",
        "entropy_history": algorithm.entropy_band.kind != "none",
        "clip_correction": ratio.correct_clipping,
        "ratio_levels": ratio.kind in ("turn", "sequence", "action") or algorithm.off_policy.kind == "geometric",
        "nll": "nll_gain" in kinds,
        "roles": "role" in keys,
        "observations": "observation" in keys,
        "attempts": algorithm.return_.kind == "differential",
        "copies": "filter" in kinds or algorithm.resize.kind != "none",
    }
    return tuple(word for word in NEEDS if asked.get(word))


def check_couplings(algorithm: Algorithm, facts: Facts) -> None:
    """RecipeError, naming both settings, for blocks that cannot work together or that this trainer cannot serve."""
    keyed, kinds = algorithm.baseline.key, {transform.kind for transform in algorithm.transforms}
    gae, critic = algorithm.return_.kind.startswith("gae"), algorithm.baseline.kind == "critic"
    rules = (
        (
            gae and not critic,
            f"return.kind {algorithm.return_.kind} is an advantage over a critic: set baseline.kind critic",
        ),
        (
            "capability" in kinds and algorithm.baseline.kernel != "capability",
            "transforms capability needs the pooled baseline: set baseline.kernel capability",
        ),
        (
            algorithm.baseline.kernel == "capability" and bool({"seat", "agent"} & set(keyed)),
            "baseline.kernel capability compares agents: take seat and agent out of baseline.key, so that they pool",
        ),
        (
            algorithm.ratio.stepwise and facts.minibatches * facts.epochs < 2,
            f"ratio.stepwise tightens from mini-batch to mini-batch: set train.minibatches above {facts.minibatches}",
        ),
        (
            algorithm.alignment.kind != "none" and facts.seats < 2,
            f"alignment.kind {algorithm.alignment.kind} needs two or more seats on a step: team has {facts.seats}",
        ),
        (
            algorithm.alignment.kind != "none" and algorithm.return_.kind == "gae_token",
            f"alignment.kind {algorithm.alignment.kind} works on steps: return.kind gae_token has none",
        ),
        (
            algorithm.update.kind in ("sequential", "reverse_turns") and algorithm.ratio.kind == "none",
            f"update.kind {algorithm.update.kind} compounds ratios: set ratio.kind to something other than none",
        ),
        (
            algorithm.ratio.correct_clipping and not algorithm.ratio.clip,
            "ratio.correct_clipping measures what clipping removes: set ratio.clip true",
        ),
    )
    for broken, message in rules:
        if broken:
            raise RecipeError(f"algorithm: {message}")
    refuse_unmet([word for word in needs_of(algorithm) if word not in facts.offered], "settings need")


def refuse_unmet(lacking: Sequence[str], whose: str) -> None:
    """RecipeError where `lacking`, words of `NEEDS`, is not empty; `whose` says what asks for them."""
    if lacking:
        meant = "; ".join(f"{word} ({NEEDS[word]})" for word in lacking)
        raise RecipeError(f"algorithm: this trainer does not offer yet what the {whose}: {meant}")
