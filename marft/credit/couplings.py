"""Which blocks go together, checked when a recipe is read. Pure functions of settings and facts."""

from __future__ import annotations

from dataclasses import dataclass

from marft.blocks import Algorithm
from marft.errors import RecipeError

NEEDS = {
    "critic": "a value head with an adapter of its own; recipe key `critic`",
    "tree": "a rollout that branches; recipe key `rollout.plan` (in one that does not, the step stands for the state)",
    "cross": "cross joint actions; recipe key `rollout.plan.pairing`",
    "scoring": "the scoring service, through the reward `information_gain`",
    "sequential": "updates one after another, each weighed by what the earlier ones changed",
    "round_robin": "one agent per update",
    "state": "credit's memory, kept in checkpoints",
    "shared_rollouts": "agents that learn from each other's rows",
    "kl_in_reward": "log-probs of the anchor before credit",
    "kl_stop": "passes over an update's rows that stop at an approximate KL; recipe key `train.epochs`",
    "anchor": "an anchor other than the base",
    "entropy_history": "the running mean of each agent's entropies, kept in checkpoints",
    "clip_correction": "the gradient of the clipping bias, a second backward pass",
    "ratio_levels": "row and turn ids in the loss",
    "nll": "the turns' mean negative log-probs",
    "roles": "functional groups: `team.SEAT.role`, or the game's mark `role`; by default every seat is its own",
    "observations": "labels of what a seat saw: the game's mark `observation`, or everything it has been shown",
    "attempts": "several attempts an episode: the game's mark `attempt`",
    "copies": "rows that are trained on several times or not at all",
}
"""What a setting asks of rollout and trainer."""


@dataclass(frozen=True)
class Facts:
    """What a recipe says besides its algorithm; None where it does not say.

    steps: of an episode, where that is known. branches, cross, advance: of the rollout's plan. staleness: versions that
    what is trained on may lie behind.
    """

    seats: int = 2
    group_size: int = 8
    steps: int | None = None
    minibatches: int = 1
    epochs: int = 1
    row_tokens: int | None = None
    branches: bool = False
    cross: bool = False
    advance: str = "all"
    staleness: int = 0


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
    """RecipeError, naming both settings, for blocks that cannot work together or with this rollout."""
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
        (
            algorithm.return_.kind == "tree" and not facts.branches,
            "return.kind tree is a mean over children: set rollout.plan.kind tree (or return.kind to_go)",
        ),
        (
            algorithm.attribution.kind in ("joint", "counterfactual") and not facts.cross,
            f"attribution.kind {algorithm.attribution.kind} compares joint actions: set rollout.plan.pairing cross",
        ),
        (
            facts.branches and gae,
            f"return.kind {algorithm.return_.kind} follows one path: set rollout.plan.kind flat",
        ),
        (
            facts.branches and facts.advance != "all" and algorithm.return_.kind not in ("tree", "turn"),
            f"return.kind {algorithm.return_.kind} needs whole episodes, but rollout.plan.advance {facts.advance} "
            "leaves branches unfinished: set advance all, or return.kind tree or turn",
        ),
    )
    for broken, message in rules:
        if broken:
            raise RecipeError(f"algorithm: {message}")
