"""Settings of the credit and loss blocks: an algorithm is one value of `Algorithm`.

Types only: this file imports neither numpy nor torch, so that a recipe can be read and checked anywhere. What each
block computes stands with its code in `marft.credit` and `marft.loss`; named compositions are in
`marft.credit.presets`.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Column = Literal[
    "instance", "game", "seat", "agent", "step", "role", "observation", "node", "parent", "call", "episode", "batch"
]
"""What a statistic can be grouped by. `role` is the functional group, `observation` any label of what the seat saw,
`parent` the tree node a turn was sampled at (the step, where the table has no tree), `call` a seat's separate call
within an episode; `batch`, or no column at all, means everything together."""

Over = Literal["decisions", "tokens", "distinct"]
"""What counts once in a statistic: every decision, every completion token, or every distinct value."""


class Block(BaseModel):
    """A block with a `kind`; a bare string in a recipe stands for {kind: that}."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _bare_kind(cls, data: Any) -> Any:
        return {"kind": data} if isinstance(data, str) else data


class Source(BaseModel):
    """One named reward of a composition: weight · column, for the seats of a `role` (all, if None).

    `late` is the weight after `Attribution.switch` of the run. With `of_role` the value is what that role earned under
    this name in the same episode (a sub-agent that inherits the main agent's success).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    column: str
    weight: float = 1.0
    late: float | None = None
    role: str | None = None
    of_role: str | None = None


class Attribution(Block):
    """R: which reward a seat is credited with.

    `own`; the `team_sum` of the step, or that sum divided by the number of seats in the episode (`team_mean`); the
    team's sum plus the seat's own column `local` (`team_local`); own, but only for the step's `last_agent`; `joint`
    and `counterfactual` for cross joint actions; `margin` and `quality` against the team's turn before; `debate_score`
    with discount `gamma`, `shared` or individual; `influence`, own plus alpha times the sign of the others' change.
    `sources` compose the reward column first, where the table has them; `gate` is a column that sets it to 0 where
    it is 0. calls_of: the role whose every turn is a call of its own, where the table has no column `call`.
    """

    kind: Literal[
        "own",
        "team_sum",
        "team_mean",
        "team_local",
        "last_agent",
        "joint",
        "counterfactual",
        "margin",
        "quality",
        "debate_score",
        "influence",
    ] = "own"
    alpha: float = 0.5
    gamma: float = Field(1.0, ge=0.0, le=1.0)
    shared: bool = True
    sources: tuple[Source, ...] = ()
    gate: str | None = None
    calls_of: str | None = None
    switch: float = Field(0.5, ge=0.0, le=1.0)


class Prepare(Block):
    """What happens to rewards before they are summed: `centre` subtracts the mean per key, and `scale` then divides by
    the unbiased standard deviation over the batch's tokens, of which all but the last of a turn carry 0."""

    kind: Literal["none", "centre"] = "none"
    key: tuple[Column, ...] = ("game", "seat")
    scale: bool = False


class Return(Block):
    """G: `to_go` discounts later rewards by gamma per step; `episode` gives all turns the same undiscounted sum;
    `turn` the step's reward alone; `tree` adds the mean over a node's children; `gae` and its chains need a critic;
    `differential` pays each attempt its gain over the attempt before, gamma within and gamma_attempt across."""

    kind: Literal["to_go", "episode", "turn", "tree", "gae", "gae_agent_chain", "gae_token", "differential"] = "to_go"
    gamma: float = Field(1.0, ge=0.0, le=1.0)
    lam: float = Field(0.95, ge=0.0, le=1.0)
    gamma_attempt: float = Field(0.6, ge=0.0, le=1.0)


class Resize(Block):
    """A fixed number of rows per key, by duplicating or dropping at random; `role` restricts it to one role."""

    kind: Literal["none", "random"] = "none"
    rows: int = Field(8, ge=1)
    key: tuple[Column, ...] = ("episode", "seat")
    role: str | None = None
    seed: int = Field(0, ge=0)


class Baseline(Block):
    """B: what is subtracted: nothing, the `mean` over the decisions with the same key, the mean over those of the other
    episodes (`loo`), the `max`, the mean over distinct values (`unique_mean`), a running mean per game and seat
    (`ema_per_seat`), or the `critic`'s value.

    kernel: `capability` weighs another agent's returns by the ratio of recent mean rewards. alone: what a decision with
    nobody to compare with gets. with_zero: a 0 joins the distinct values, as in code that reads the padding.
    decay, update_first: of the running mean. window: batches behind a capability.
    """

    kind: Literal["none", "mean", "loo", "max", "unique_mean", "ema_per_seat", "critic"] = "none"
    key: tuple[Column, ...] = ("instance", "seat", "step")
    over: Over = "decisions"
    kernel: Literal["uniform", "capability"] = "uniform"
    alone: Literal["zero", "raw"] = "zero"
    with_zero: bool = False
    decay: float = Field(0.95, ge=0.0, le=1.0)
    update_first: bool = False
    window: int = Field(5, ge=1)


class Alignment(Block):
    """How another seat's advantage enters mine: `none`, the plain `sum`, Advantage Alignment (`ad_align`), or its first
    published form (`ad_align_original`).

    The options below `include_now` act in the order they stand here: down to `first_weight_one` on ad_align's weights,
    `centre` and `whiten` on the aligned advantage, over the decisions of the batch with the same seat (and step).
    """

    kind: Literal["none", "sum", "ad_align", "ad_align_original"] = "none"
    beta: float = 1.0
    gamma: float = Field(0.9, ge=0.0, le=1.0)
    gamma_a: float = Field(0.9, ge=0.0, le=1.0)
    include_now: bool = False
    sign: bool = False
    clip: float | None = Field(None, gt=0.0)
    divide_by_step: bool = False
    first_weight_one: bool = False
    centre: Literal["none", "step"] = "none"
    whiten: Literal["none", "all", "step"] = "none"


class Normalise(Block):
    """T: `std` divides by the standard deviation over the decisions with the same key; `whiten` subtracts the mean as
    well and takes both over all decisions of the batch. No spread gives zeros.

    eps_place: σ + eps (`add`), sqrt(σ² + eps) (`inside`) or max(σ, eps) (`floor`). of: whose deviation, the advantage's
    or the return's. skip_zeros: advantages of exactly 0 stay 0 and out of the statistics. alone: a group of one keeps
    its advantage over 1 + eps (`raw`) or gets 0.
    """

    kind: Literal["none", "std", "whiten"] = "none"
    key: tuple[Column, ...] = ("instance", "seat")
    unbiased: bool = True
    eps: float = Field(1e-6, ge=0.0)
    eps_place: Literal["add", "inside", "floor"] = "add"
    over: Over = "decisions"
    of: Literal["advantage", "return"] = "advantage"
    skip_zeros: bool = False
    alone: Literal["zero", "raw"] = "zero"


class Transform(Block):
    """T: further steps on the advantage, in the order of the list: `clamp` to ±limit, `nll_gain` A·exp(−alpha·z(mean
    NLL)) in the group, `capability` for another agent's rows, `filter` of groups whose returns have no spread."""

    kind: Literal["clamp", "nll_gain", "capability", "filter"]
    limit: float = Field(3.0, gt=0.0)
    alpha: float = 0.25
    key: tuple[Column, ...] = ("instance", "seat", "step")


class Ratio(Block):
    """L: level of the importance ratio, with PPO's clip range around 1.

    `none` (REINFORCE); `token`; `turn` and `sequence`, the geometric mean over the turn's or row's tokens; `action`,
    the product over the turn. log_cap bounds a token's log-ratio, or a turn's mean, from above. dual: the loss of a
    negative advantage is at most −c·A. clip: off for an unbounded ratio. foreign_power and stepwise are for rows that
    another agent sampled: s·sg[s]^α below 1, bounded to [1 − delta + k·delta_step, 1] at mini-batch k.
    correct_clipping: normalise the gradient by the clipping bias (ST-PPO).
    """

    kind: Literal["none", "token", "turn", "sequence", "action"] = "none"
    clip: bool = True
    clip_low: float = Field(0.2, ge=0.0)
    clip_high: float = Field(0.2, ge=0.0)
    dual: float | None = Field(None, gt=1.0)
    log_cap: float | None = Field(None, gt=0.0)
    foreign_power: float = Field(0.0, ge=0.0)
    stepwise: bool = False
    delta: float = Field(0.8, ge=0.0, le=1.0)
    delta_step: float = Field(0.01, ge=0.0)
    correct_clipping: bool = False


class Aggregate(Block):
    """L: mean over all `token`s of the batch; mean within each `row` or `turn` and then over those; sum within the row,
    then the mean over rows (`row_sum`), and the same over a `constant` (`sum_over`, Dr. GRPO)."""

    kind: Literal["token_mean", "row_mean", "turn_mean", "row_sum", "sum_over"] = "token_mean"
    constant: float = Field(1024.0, gt=0.0)


class KL(Block):
    """K: divergence from the anchor, estimator k1, k2 or k3, times `coef`, added to the loss or taken off the reward
    (of the turn: the column `kl`). anchor: the `base` with adapters off; the `adapter` that the agent started from; its
    last `snapshot`, taken with each checkpoint; or another agent's present policy, `agent:NAME`."""

    kind: Literal["k1", "k2", "k3"] = "k3"
    coef: float = Field(0.0, ge=0.0)
    where: Literal["loss", "reward"] = "loss"
    anchor: str = Field("base", pattern=r"^(base|adapter|snapshot|agent:[\w-]+)$")


class EntropyBand(Block):
    """K: EPO's smoothing: coef times the distance of a token's entropy from [low, high] times its running mean.
    schedule: how coef moves over the run; `epo` by EPO's own weights for its two halves."""

    kind: Literal["none", "band"] = "none"
    coef: float = Field(0.1, ge=0.0)
    low: float = Field(0.8, ge=0.0)
    high: float = Field(1.2, ge=0.0)
    schedule: Literal["constant", "epo"] = "constant"


class OffPolicy(Block):
    """Correction for the engine's policy, by r = pi_old / mu: `truncate` multiplies by min(r, cap); `interval` by r
    where it lies in [low, high], and by 0 elsewhere; `geometric` drops rows whose geometric mean of r lies outside."""

    kind: Literal["none", "truncate", "interval", "geometric"] = "none"
    cap: float = Field(2.0, gt=0.0)
    low: float = Field(0.5, ge=0.0)
    high: float = Field(5.0, gt=0.0)


class Update(Block):
    """U: who trains when. `simultaneous`: all agents at each update; `round_robin`: one agent per update; `sequential`:
    all, in random order, each weighed by the earlier agents' new ratios; `reverse_turns`: turns from last to first,
    each weighed by the later turns' new ratios. low, high bound each ratio and the running product. kl_stop ends the
    passes over an update's rows once the approximate KL to the old policy exceeds it."""

    kind: Literal["simultaneous", "round_robin", "sequential", "reverse_turns"] = "simultaneous"
    low: float = Field(0.8, gt=0.0)
    high: float = Field(1.2, gt=0.0)
    kl_stop: float | None = Field(None, gt=0.0)


class Algorithm(BaseModel):
    """One composition of all blocks. Presets are values of this type; a recipe may start from one and change blocks."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    attribution: Attribution = Attribution()
    prepare: Prepare = Prepare()
    return_: Return = Field(Return(), alias="return")
    resize: Resize = Resize()
    baseline: Baseline = Baseline()
    alignment: Alignment = Alignment()
    normalise: Normalise = Normalise()
    transforms: tuple[Transform, ...] = ()
    discount_visits: bool = False
    """Spread: weigh a step's tokens by gamma^step, the discounted state-visitation weight."""
    ratio: Ratio = Ratio()
    aggregate: Aggregate = Aggregate()
    kl: KL = KL()
    entropy: float = 0.0
    """Coefficient of the entropy bonus."""
    entropy_band: EntropyBand = EntropyBand()
    off_policy: OffPolicy = OffPolicy()
    critic: Literal["own", "all"] = "own"
    """What a critic sees, where a block asks for one: the seat's own view, or all seats' views."""
    update: Update = Update()
