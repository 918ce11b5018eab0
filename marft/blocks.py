"""Settings of the credit and loss blocks: an algorithm is one value of `Algorithm`.

Types only: this file imports neither numpy nor torch, so that a recipe can be read and checked anywhere. What each
block computes stands with its code in `marft.credit` and `marft.loss`; named compositions are in
`marft.credit.presets`.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Column = Literal["instance", "game", "seat", "agent", "step"]


class Block(BaseModel):
    """A block with a `kind`; a bare string in a recipe stands for {kind: that}."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _bare_kind(cls, data: Any) -> Any:
        return {"kind": data} if isinstance(data, str) else data


class Attribution(Block):
    """R: which reward a seat is credited with: its `own`, the `team_sum` of the step, or that sum divided by the number
    of seats in the episode (`team_mean`)."""

    kind: Literal["own", "team_sum", "team_mean"] = "own"


class Return(Block):
    """G: `to_go` discounts later rewards by gamma per step; `episode` gives all turns the same undiscounted sum;
    `turn` the step's reward alone."""

    kind: Literal["to_go", "episode", "turn"] = "to_go"
    gamma: float = Field(1.0, ge=0.0, le=1.0)


class Baseline(Block):
    """B: what is subtracted: nothing, the `mean` over the decisions with the same key, or the mean over those of the
    other episodes (`loo`)."""

    kind: Literal["none", "mean", "loo"] = "none"
    key: tuple[Column, ...] = ("instance", "seat", "step")


class Alignment(Block):
    """How another seat's advantage enters mine: `none`, the plain `sum`, or Advantage Alignment (`ad_align`).

    The options below `include_now` act in the order they stand here: down to `first_weight_one` on ad_align's weights,
    `centre` and `whiten` on the aligned advantage, over the decisions of the batch with the same seat (and step).
    """

    kind: Literal["none", "sum", "ad_align"] = "none"
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
    """T: `std` divides by the standard deviation over the decisions with the same key, plus eps; `whiten` subtracts the
    mean as well and takes both over all decisions of the batch. No spread gives zeros."""

    kind: Literal["none", "std", "whiten"] = "none"
    key: tuple[Column, ...] = ("instance", "seat")
    unbiased: bool = True
    eps: float = Field(1e-6, ge=0.0)


class Ratio(Block):
    """L: level of the importance ratio: `none` (REINFORCE) or `token`, with PPO's clip range around 1."""

    kind: Literal["none", "token"] = "none"
    clip_low: float = Field(0.2, ge=0.0)
    clip_high: float = Field(0.2, ge=0.0)


class Aggregate(Block):
    """L: mean over all `token`s of the batch, mean within each `row` or `turn` and then over those."""

    kind: Literal["token_mean", "row_mean", "turn_mean"] = "token_mean"


class KL(Block):
    """K: divergence from the base model (adapters off), estimator k1, k2 or k3, times `coef`, added to the loss."""

    kind: Literal["k1", "k2", "k3"] = "k3"
    coef: float = Field(0.0, ge=0.0)


class OffPolicy(Block):
    """Correction for the engine's policy: `truncate` multiplies by min(pi_old / mu, cap), detached; or `none`."""

    kind: Literal["none", "truncate"] = "none"
    cap: float = Field(2.0, gt=0.0)


class Algorithm(BaseModel):
    """One composition of all blocks. Presets are values of this type; a recipe may start from one and change blocks."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    attribution: Attribution = Attribution()
    return_: Return = Field(Return(), alias="return")
    baseline: Baseline = Baseline()
    alignment: Alignment = Alignment()
    normalise: Normalise = Normalise()
    discount_visits: bool = False
    """Spread: weigh a step's tokens by gamma^step, the discounted state-visitation weight."""
    ratio: Ratio = Ratio()
    aggregate: Aggregate = Aggregate()
    kl: KL = KL()
    entropy: float = 0.0
    """Coefficient of the entropy bonus."""
    off_policy: OffPolicy = OffPolicy()
