"""Named algorithms: one table, a row per method. A preset is a composition of blocks, never a subclass.

Where a paper is silent the choice stands in the row's `summary` or in the docstring of the block that makes it. A paper
and its code that differ are two rows, each named for what it follows.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from marft.blocks import (
    KL,
    Aggregate,
    Algorithm,
    Alignment,
    Attribution,
    Baseline,
    EntropyBand,
    Normalise,
    OffPolicy,
    Prepare,
    Ratio,
    Resize,
    Return,
    Source,
    Transform,
    Update,
)
from marft.credit.couplings import needs_of
from marft.credit.settings import read_algorithm


class Preset(NamedTuple):
    """`source`: where the method and its numbers are from. `needs`: what a trainer must offer for it (couplings)."""

    settings: Algorithm
    source: str
    summary: str
    needs: tuple[str, ...] = ()


def _row(source: str, summary: str, *more_needs: str, **blocks: Any) -> Preset:
    settings = Algorithm(**blocks)
    return Preset(settings, source, summary, (*needs_of(settings), *more_needs))


_PPO = Ratio(kind="token", clip_low=0.2, clip_high=0.2)
_TEAM = Attribution(kind="team_sum")
_OUTCOME = Return(kind="episode")
_GROUP = Baseline(kind="mean", key=("instance", "seat"))
_STATE = ("instance", "parent", "step", "seat")
_STD = Normalise(kind="std", key=("instance", "seat"), unbiased=True, eps=1e-6)
_WHITEN = Normalise(kind="whiten")
_CRITIC = Baseline(kind="critic")
_MARSHAL_LOSS = {
    "ratio": Ratio(kind="token", dual=1.4),
    "aggregate": Aggregate(kind="row_mean"),
    "kl": KL(kind="k3", coef=0.2),
}
_SOCIAL = {
    "attribution": Attribution(kind="own"),
    "return_": Return(kind="to_go", gamma=0.9),
    "baseline": Baseline(kind="loo", key=("instance", "seat", "step")),
    "off_policy": OffPolicy(kind="truncate", cap=2.0),
    "kl": KL(kind="k3", coef=0.001),
}
_REMA = {
    "attribution": _TEAM,
    "return_": _OUTCOME,
    "ratio": Ratio(kind="turn", dual=3.0, log_cap=3.0),
    "aggregate": Aggregate(kind="turn_mean"),
    "update": Update(kind="round_robin"),
}
_MARFT = {
    "attribution": Attribution(kind="last_agent"),
    "baseline": _CRITIC,
    "update": Update(kind="round_robin", kl_stop=0.01),
    "critic": "all",
}
_GAE = {"baseline": _CRITIC, "normalise": _WHITEN, "return_": Return(kind="gae", gamma=0.99, lam=0.95)}
_SCHEDULE = (
    Source(column="safety", weight=0.6, late=0.3),
    Source(column="task", weight=0.3, late=0.6),
    Source(column="format", weight=0.1),
)
_M_GRPO = (
    Source(column="format", weight=0.1),
    Source(column="correct", weight=0.9, role="main"),
    Source(column="correct", weight=0.4, role="sub", of_role="main"),
    Source(column="judge", weight=0.5, role="sub"),
)

PRESETS: dict[str, Preset] = {
    "reinforce": _row(
        "Williams 1992",
        "each seat's own undiscounted reward-to-go, no baseline",
        baseline=Baseline(kind="none"),
    ),
    "grpo": _row(
        "DeepSeekMath, arXiv 2402.03300",
        "one team outcome for all turns, z-scored in the group of the seat",
        attribution=_TEAM,
        return_=_OUTCOME,
        baseline=_GROUP,
        normalise=_STD,
        ratio=_PPO,
    ),
    "dr_grpo": _row(
        "arXiv 2503.20783",
        "grpo without deviation and without length in the denominator; the constant only scales the learning rate",
        attribution=_TEAM,
        return_=_OUTCOME,
        baseline=_GROUP,
        ratio=_PPO,
        aggregate=Aggregate(kind="sum_over"),
    ),
    "rloo": _row(
        "arXiv 2402.14740",
        "reward-to-go minus the mean of the group's other episodes",
        return_=Return(kind="to_go"),
        baseline=Baseline(kind="loo", key=("instance", "seat")),
    ),
    "magrpo": _row(
        "arXiv 2508.04652",
        "team return over a rollout tree against its siblings; without tree columns, against the group's same step",
        attribution=_TEAM,
        return_=Return(kind="tree"),
        baseline=Baseline(kind="mean", key=("instance", "parent")),
        aggregate=Aggregate(kind="row_sum"),
    ),
    "mars": _row(
        "arXiv 2510.15414",
        "returns to go against the seat's mean over all its turns of the game, each occurrence once; sums first",
        return_=Return(kind="to_go", gamma=1.0),
        baseline=Baseline(kind="mean", key=("game", "seat")),
        normalise=_WHITEN,
        **_MARSHAL_LOSS,
    ),
    "marshal": _row(
        "code of arXiv 2510.15414, github thu-nics/MARSHAL",
        "rewards centred and scaled before they are summed, distinct-value baseline with its zero, token whitening",
        prepare=Prepare(kind="centre", key=("game", "seat"), scale=True),
        return_=Return(kind="to_go", gamma=1.0),
        baseline=Baseline(kind="unique_mean", key=("seat",), with_zero=True),
        normalise=Normalise(kind="whiten", over="tokens", eps=1e-8, eps_place="inside"),
        **_MARSHAL_LOSS,
    ),
    "ad_align": _row(
        "arXiv 2511.19405",
        "Advantage Alignment: the others' advantages, weighed by my own past ones",
        alignment=Alignment(kind="ad_align", beta=1.0, gamma=0.9, gamma_a=0.9),
        **_SOCIAL,
    ),
    "prosocial": _row(
        "arXiv 2511.19405, the sum-of-rewards baseline; gamma as in ad_align",
        "every seat's advantage is the sum of all seats' advantages",
        alignment=Alignment(kind="sum"),
        **_SOCIAL,
    ),
    "ad_align_original": _row(
        "arXiv 2406.14662",
        "undiscounted alignment over the step number, on critic advantages",
        return_=Return(kind="gae", gamma=0.9, lam=0.95),
        baseline=_CRITIC,
        alignment=Alignment(kind="ad_align_original"),
        normalise=_WHITEN,
        ratio=Ratio(kind="token", clip_low=0.1, clip_high=0.1),
    ),
    "rae": _row(
        "SPIRAL, arXiv 2506.24119",
        "outcome against a running mean of the game's seat",
        return_=_OUTCOME,
        baseline=Baseline(kind="ema_per_seat", decay=0.95),
        ratio=_PPO,
        aggregate=Aggregate(kind="sum_over"),
    ),
    "dr_mas": _row(
        "arXiv 2602.08847",
        "grpo with the statistics of each agent, whatever seat it fills",
        attribution=_TEAM,
        return_=_OUTCOME,
        baseline=Baseline(kind="mean", key=("instance", "agent")),
        normalise=Normalise(kind="std", key=("instance", "agent"), unbiased=True, eps=1e-6),
        ratio=_PPO,
    ),
    "marft": _row(
        "arXiv 2504.16129",
        "agents act as one sequence; the critic sees all views; the KL stop is 0.01, not the code's 1.7e-6",
        return_=Return(kind="gae_agent_chain", gamma=0.99, lam=0.95),
        normalise=Normalise(kind="whiten", skip_zeros=True),
        ratio=Ratio(kind="action"),
        aggregate=Aggregate(kind="turn_mean"),
        **_MARFT,
    ),
    "marft_token": _row(
        "arXiv 2504.16129",
        "marft over tokens; on a table of turns a turn is one token",
        return_=Return(kind="gae_token", gamma=0.99, lam=0.95),
        normalise=_WHITEN,
        ratio=_PPO,
        **_MARFT,
    ),
    "ippo": _row("arXiv 2103.01955", "PPO per seat, critic on its own view", ratio=_PPO, **_GAE),
    "mappo": _row(
        "arXiv 2103.01955",
        "PPO on the team's reward, critic on all views",
        attribution=_TEAM,
        ratio=_PPO,
        critic="all",
        **_GAE,
    ),
    "maporl": _row(
        "MAPoRL, arXiv 2502.18439",
        "scores of a debate, later rounds shared, minus the critic's value",
        attribution=Attribution(kind="debate_score", gamma=1.0, shared=True),
        return_=Return(kind="turn"),
        baseline=_CRITIC,
        normalise=_WHITEN,
        ratio=_PPO,
    ),
    "rema": _row(
        "arXiv 2503.09501",
        "team outcome z-scored in the group, turn-level ratio; a group of one gets 0",
        baseline=_GROUP,
        normalise=_STD,
        **_REMA,
    ),
    "rema_code": _row(
        "code of arXiv 2503.09501, github ziyuwan/ReMA-public",
        "rema, but a group of one keeps its score, as in that code",
        baseline=Baseline(kind="mean", key=("instance", "seat"), alone="raw"),
        normalise=Normalise(kind="std", key=("instance", "seat"), unbiased=True, eps=1e-6, alone="raw"),
        **_REMA,
    ),
    "m_grpo": _row(
        "arXiv 2511.13288",
        "main agent and a varying number of sub-agent calls; calls are resized to 8 an episode; columns role "
        "(main, sub), format, correct, judge, call; without these, grpo on the seat's own reward",
        attribution=Attribution(kind="own", sources=_M_GRPO, gate="format", calls_of="sub"),
        return_=_OUTCOME,
        resize=Resize(kind="random", rows=8, key=("episode", "seat"), role="sub"),
        baseline=_GROUP,
        normalise=_STD,
        ratio=Ratio(kind="token", clip_low=0.2, clip_high=0.28),
    ),
    "at_grpo": _row(
        "arXiv 2510.11062",
        "K samples of each agent at each state, z-scored there; groups without spread are dropped",
        attribution=Attribution(kind="team_local"),
        return_=Return(kind="turn"),
        baseline=Baseline(kind="mean", key=_STATE),
        normalise=Normalise(kind="std", key=_STATE),
        transforms=(Transform(kind="filter", key=_STATE),),
        ratio=_PPO,
    ),
    "seeupo": _row(
        "arXiv 2602.06554",
        "turns update from last to first, each weighed by the later turns' ratios; no group deviation",
        attribution=_TEAM,
        return_=_OUTCOME,
        baseline=Baseline(kind="mean", key=("instance",)),
        normalise=_WHITEN,
        transforms=(Transform(kind="clamp", limit=3.0),),
        ratio=Ratio(kind="sequence"),
        aggregate=Aggregate(kind="row_mean"),
        kl=KL(kind="k3", coef=0.002),
        update=Update(kind="reverse_turns", low=0.8, high=1.2),
    ),
    "igpo": _row(
        "arXiv 2510.14967",
        "gain in the probability of the true answer per turn, F1 last; by turn index, not by token index as its code",
        "scoring",
        return_=Return(kind="to_go", gamma=1.0),
        baseline=Baseline(kind="mean", key=("instance", "step")),
        normalise=Normalise(kind="std", key=("instance", "step")),
        ratio=_PPO,
        kl=KL(kind="k3", coef=0.001),
    ),
    "turn_ppo": _row(
        "arXiv 2511.20718",
        "PPO with one ratio per turn, the geometric mean over its tokens",
        ratio=Ratio(kind="turn"),
        **_GAE,
    ),
    "st_ppo": _row(
        "arXiv 2511.20718",
        "turn_ppo whose gradient is normalised by its clipping bias (the normaliser is our reading)",
        ratio=Ratio(kind="turn", correct_clipping=True),
        **_GAE,
    ),
    "hacpo": _row(
        "arXiv 2603.02604",
        "samples of all agents pooled, weighed by capability; clip of own rows as in GSPO",
        return_=_OUTCOME,
        baseline=Baseline(kind="mean", key=("instance",), kernel="capability", window=5),
        normalise=Normalise(kind="std", key=("instance",), of="return"),
        transforms=(Transform(kind="capability"),),
        ratio=Ratio(kind="sequence", clip_low=3e-4, clip_high=4e-4, foreign_power=1.0, stepwise=True),
        aggregate=Aggregate(kind="row_mean"),
    ),
    "umad": _row(
        "arXiv 2603.01221",
        "debate with a reward for moving the others, and more weight on confident answers",
        attribution=Attribution(kind="influence", alpha=0.2),
        return_=Return(kind="turn"),
        baseline=Baseline(kind="mean", key=("instance", "step", "seat")),
        normalise=Normalise(kind="std", key=("instance", "step", "seat")),
        transforms=(Transform(kind="nll_gain", alpha=0.25, key=("instance", "step", "seat")),),
        ratio=_PPO,
        kl=KL(kind="k1", coef=0.001, where="reward"),
    ),
    "public_baseline": _row(
        "AdvEvo-MARL, arXiv 2510.01586",
        "the mean of the functional group (column role), crossed with the instance; weights .6/.3/.1 on safety, task "
        "and format, the first two swapped halfway, are our choice",
        attribution=Attribution(kind="own", sources=_SCHEDULE),
        return_=_OUTCOME,
        baseline=Baseline(kind="mean", key=("instance", "role")),
        normalise=_WHITEN,
        ratio=_PPO,
    ),
    "epo": _row(
        "arXiv 2509.22576",
        "grpo with an entropy bonus and a differentiable band around the running mean entropy",
        attribution=_TEAM,
        return_=_OUTCOME,
        baseline=_GROUP,
        normalise=_STD,
        ratio=_PPO,
        entropy=0.001,
        entropy_band=EntropyBand(kind="band", coef=0.1, low=0.8, high=1.2, schedule="epo"),
    ),
}


def algorithm(settings: Any) -> Algorithm:
    """An `Algorithm` from a preset name, from itself, or from a mapping of blocks (see `settings.read_algorithm`)."""
    return read_algorithm(settings, PRESETS)
